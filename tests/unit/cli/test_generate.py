"""``smallmind generate``."""

from __future__ import annotations

import json

import pytest

import smallmind
from smallmind._cli.commands import generate as command
from smallmind_engine.telemetry import ReasonCode
from smallmind_engine.telemetry.errors import InferenceError

GREEDY = ("--temperature", "0", "--max-tokens", "6")


@pytest.fixture
def expected(tiny_path) -> smallmind.GenerationResult:
    with smallmind.load(tiny_path, exporters=()) as engine:
        return engine.generate("hello", max_tokens=6, temperature=0.0)


def test_the_text_alone_is_on_standard_output(cli, expected):
    ran = cli("generate", "MODEL", "hello", *GREEDY)
    assert (ran.exit_code, ran.stdout, ran.stderr) == (0, expected.text + "\n", "")


def test_a_dash_reads_the_prompt_from_standard_input(cli, expected):
    ran = cli("generate", "MODEL", "-", *GREEDY, stdin="hello\n")
    assert ran.stdout == expected.text + "\n"


def test_a_prompt_that_is_not_utf8_is_refused(cli):
    ran = cli("generate", "MODEL", "-", stdin=b"\xff")
    assert ran.exit_code == 2
    assert "not UTF-8" in ran.stderr


def test_json_is_one_document_with_the_whole_result(cli, expected):
    ran = cli("generate", "MODEL", "hello", *GREEDY, "--json", "--logprobs", "2")
    document = json.loads(ran.stdout)
    assert document["text"] == expected.text
    assert document["token_ids"] == list(expected.token_ids)
    assert document["stop_reason"] == expected.stop_reason
    assert document["usage"]["total_tokens"] == expected.usage.total_tokens
    assert set(document["timings"]["ledger"]) == set(smallmind.Phase)
    assert len(document["logprobs"]) == len(expected.token_ids)
    assert document["correlation"]["request_id"].startswith("req-")


def test_options_reach_the_request(cli, monkeypatch):
    made = []

    class Spy(command.GenerationOptions):
        def __post_init__(self) -> None:
            super().__post_init__()
            made.append(self)

    monkeypatch.setattr(command, "GenerationOptions", Spy)
    ran = cli(
        *("generate", "MODEL", "hello", "-n", "3", "-t", "0.5", "--top-k", "7"),
        *("--top-p", "0.5", "--min-p", "0.1", "--seed", "9", "--stop", "a", "--stop", "b"),
        *("--logprobs", "1", "--timeout", "60"),
    )
    assert ran.exit_code == 0
    (options,) = made
    assert (options.max_tokens, options.temperature, options.top_k) == (3, 0.5, 7)
    assert (options.top_p, options.min_p, options.seed) == (0.5, 0.1, 9)
    assert (options.stop, options.logprobs, options.request_timeout) == (("a", "b"), 1, 60.0)


def test_an_answer_takes_the_form_that_is_asked_for(cli, tmp_path):
    schema, grammar = tmp_path / "schema.json", tmp_path / "word.gbnf"
    schema.write_text('{"enum": [true]}', "utf-8")
    grammar.write_text('root ::= "a" [b] "c"', "utf-8")
    forms = {
        ("--json-schema", str(schema)): "true",
        ("--regex", "x{3}"): "xxx",
        ("--choice", "the", "--choice", "the"): "the",
        ("--grammar", str(grammar)): "abc",
    }
    for options, text in forms.items():
        ran = cli("generate", "MODEL", "hello", *options)
        assert (ran.exit_code, ran.stdout) == (0, f"{text}\n")


def test_an_answer_that_is_cut_short_of_its_form_fails(cli):
    ran = cli("generate", "MODEL", "hello", "--regex", "x{30}", "-n", "2", "--json")
    assert ran.exit_code == 1
    structured = json.loads(ran.stdout)["structured"]
    assert (structured["complete"], structured["cut_by"]) == (False, "MAX_TOKENS")
    ran = cli("generate", "MODEL", "hello", "--regex", "x{30}", "-n", "2")
    assert "no whole regex" in ran.stderr


def test_a_form_that_cannot_be_read_is_refused(cli, tmp_path):
    missing = str(tmp_path / "missing.json")
    for options, named in (
        (("--json-schema", missing), "missing.json"),
        (("--regex", "("), "unclosed group"),
        (("--regex", "a", "--choice", "b"), "at once"),
    ):
        ran = cli("generate", "MODEL", "hello", *options)
        assert ran.exit_code == 2
        assert named in ran.stderr.replace("\n", " ")


def test_the_same_seed_gives_the_same_text(cli):
    first, second = (cli("generate", "MODEL", "hello", "--seed", "4") for _ in range(2))
    assert first.stdout == second.stdout


def test_the_callers_trace_is_the_parent(cli, monkeypatch):
    trace = "0af7651916cd43dd8448eb211c80319c"
    monkeypatch.setenv("TRACEPARENT", f"00-{trace}-b7ad6b7169203331-01")
    document = json.loads(cli("generate", "MODEL", "x", "-n", "1", "--json").stdout)
    assert document["correlation"]["trace_id"] == trace


def test_stats_go_to_standard_error(cli, expected):
    ran = cli("generate", "MODEL", "hello", *GREEDY, "--stats", "--logprobs", "1")
    assert ran.stdout == expected.text + "\n"
    for word in ("Time ledger", "load: weights", "prefill", "unattributed", "request id", "MAX_TO"):
        assert word in ran.stderr
    assert "Log-probabilities" in ran.stderr


def test_a_chat_turn_uses_the_models_format(cli, tiny_path):
    ran = cli("generate", "MODEL", "hello", *GREEDY, "--chat", "--system", "Be brief.", "--json")
    with smallmind.load(tiny_path, exporters=()) as engine:
        answer = engine.chat("Be brief.").send("hello", max_tokens=6, temperature=0.0)
    assert json.loads(ran.stdout)["token_ids"] == list(answer.token_ids)


def test_a_request_that_times_out_keeps_its_text_and_fails(cli):
    ran = cli("generate", "MODEL", "hello", "--timeout", "1e-9", "--json")
    assert ran.exit_code == 1
    assert json.loads(ran.stdout)["stop_reason"] == "CANCELLED_BY_TIMEOUT"


def test_the_reason_of_an_early_end_is_told(cli):
    ran = cli("generate", "MODEL", "hello", "--timeout", "1e-9")
    assert (ran.exit_code, ran.stdout) == (1, "\n")
    assert ran.stderr == "stopped after 0 tokens: CANCELLED_BY_TIMEOUT\n"


def test_a_request_that_fails_midway_ends_its_line_first(cli, monkeypatch):
    def failing(self):
        yield smallmind.StreamChunk("begun", 1, 0)
        raise InferenceError(ReasonCode.NON_FINITE_LOGITS, "the model broke")

    monkeypatch.setattr("smallmind_engine.runtime.generation.GenerationRun.steps", failing)
    ran = cli("generate", "MODEL", "hello")
    assert (ran.exit_code, ran.stdout) == (1, "begun\n")
    assert ran.stderr == "error: the model broke [NON_FINITE_LOGITS]\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("no-such-model", "x"), "[MODEL_NAME_UNKNOWN]"),
        (("MODEL", ""), "[PROMPT_EMPTY]"),
        (("MODEL", "x", "--temperature", "-1"), "[OPTION_INVALID]"),
        (("MODEL", "x", "--backend", "abacus"), "[OPTION_INVALID]"),
        (("MODEL", "x", "--exporter", "nowhere"), "[EXPORTER_UNKNOWN]"),
        (("MODEL", "x", "--context-length", "0"), "[OPTION_INVALID]"),
        (("MODEL", "x " * 500), "[CONTEXT_OVERFLOW]"),
        (("MODEL", "x", "--weights", "in the cloud"), "per_layer"),
        (("MODEL",), "PROMPT"),
    ],
)
def test_what_cannot_be_done_is_told_with_exit_code_2(cli, arguments, words):
    ran = cli("generate", *arguments)
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert words in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_file_that_is_no_model_is_told(cli, tmp_path):
    path = tmp_path / "x.gguf"
    path.write_bytes(b"not a model at all, not even nearly")
    ran = cli("generate", str(path), "x")
    assert ran.exit_code == 2
    assert ran.stderr.endswith("[GGUF_NOT_GGUF]\n")
    assert ran.stderr.count("\n") == 1


def test_debug_adds_the_traceback(cli):
    ran = cli("--debug", "generate", "no-such-model", "x")
    assert ran.exit_code == 2
    assert "Traceback" in ran.stderr
    assert ran.stderr.splitlines()[-1].startswith("error: ")
