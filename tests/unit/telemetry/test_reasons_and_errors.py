"""One table explains every code; errors carry one."""

from __future__ import annotations

import copy
import importlib.util
import pickle

import pytest

from smallmind_engine.telemetry import (
    REASONS,
    DegradeReason,
    MissingExtraError,
    ReasonCode,
    SmallMindError,
    StopReason,
    errors,
)

ERROR_TYPES = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, SmallMindError)
]
SEED_CODES = [
    "TOKENIZER_GGUF_METADATA_MISSING",
    "TOKENIZER_VOCAB_PARTIAL",
    "TOKENIZER_MERGES_MISSING",
    "TOKENIZER_FALLBACK_BYTEBPE",
    "TOKENIZER_FALLBACK_TOKENTABLE_ONLY",
    "CANCELLED_BY_CALLER",
    "CANCELLED_BY_TIMEOUT",
    "BACKPRESSURE_BUFFER_FULL",
    "BACKPRESSURE_QUEUE_FULL",
    "MEMORY_BUDGET_EXCEEDED",
    "MEMORY_BUDGET_SOFT_LIMIT",
]


@pytest.fixture
def generator(request):
    path = request.config.rootpath / "docs" / "generate.py"
    spec = importlib.util.spec_from_file_location("docs_generate", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_explains_every_code_exactly_once():
    assert sorted(ReasonCode) == sorted(reason.code for reason in REASONS)


def test_every_meaning_and_remedy_is_a_sentence():
    for reason in REASONS:
        assert reason.meaning.endswith("."), reason.code
        assert reason.remedy.endswith("."), reason.code


@pytest.mark.parametrize("code", SEED_CODES)
def test_the_codes_of_the_seed_are_there(code):
    assert ReasonCode(code).name == code


@pytest.mark.parametrize("kind", [StopReason, DegradeReason])
def test_stop_and_degrade_reasons_are_codes_of_the_table(kind):
    assert {str(reason) for reason in kind} <= {str(code) for code in ReasonCode}


def test_the_reference_pages_are_what_the_code_says(generator):
    for name, make in generator.PAGES.items():
        page = (generator.REFERENCE / name).read_text(encoding="utf-8")
        assert make() == page, f"{name} is out of date: run python docs/generate.py"


def test_the_page_of_codes_marks_stop_and_degrade_reasons(generator):
    rows = {
        line.split("`")[1]: line for line in generator.reason_codes().splitlines() if "| `" in line
    }
    assert rows["MAX_TOKENS"].endswith("| stop |")
    assert rows["EVENTS_DROPPED"].endswith("| degrade |")
    assert rows["MEMORY_BUDGET_SOFT_LIMIT"].endswith("| stop, degrade |")
    assert rows["GGUF_TRUNCATED"].endswith("| code |")


def test_the_check_fails_on_drift_and_writing_mends_it(generator, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(generator, "REFERENCE", tmp_path)
    assert generator.main(["--check"]) == 1
    assert "reason-codes.md is out of date" in capsys.readouterr().err
    assert generator.main([]) == 0
    assert generator.main(["--check"]) == 0
    (tmp_path / "events.md").write_text("other")
    assert generator.main(["--check"]) == 1


@pytest.mark.parametrize("error_type", ERROR_TYPES, ids=lambda t: t.__name__)
def test_an_error_keeps_everything_through_pickle_and_copy(error_type):
    if error_type is MissingExtraError:
        error = MissingExtraError("cli", "the command line")
    else:
        error = error_type(ReasonCode.CLOSED, "it was shut", hint="open it", where="here")
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):  # noqa: S301
        assert (type(error), str(error)) == (type(twin), str(twin))
        assert (error.reason, error.hint, error.details) == (twin.reason, twin.hint, twin.details)


def test_an_error_tells_message_hint_and_code_in_one_line():
    error = SmallMindError(ReasonCode.CLOSED, "it was shut", hint="open it", where="here")
    assert str(error) == "it was shut; open it [CLOSED]"
    assert error.details == {"where": "here"}
    assert str(SmallMindError(ReasonCode.CLOSED, "it was shut")) == "it was shut [CLOSED]"


def test_a_missing_extra_names_the_line_to_run():
    assert 'pip install "smallmind[cli]"' in str(MissingExtraError("cli", "the command line"))
