"""The runner: which checks run, what they may do to each other, and how it is stopped."""

from __future__ import annotations

import dataclasses
import math
import threading
from pathlib import Path

import pytest

from smallmind import CancellationToken
from smallmind.validation import (
    CHECKS,
    Applies,
    Check,
    CheckStatus,
    Figure,
    Subject,
    ValidationOptions,
    ValidationRunner,
    judged,
    skipped,
)
from smallmind_engine.telemetry import ReasonCode
from smallmind_engine.telemetry.errors import ConfigError, RegistryError
from validation_faults import logits_fault


def made(name, run):
    return Check(name, "?", run, Applies.ALL)


def holding(_: Subject):
    return judged("fine", [Figure(name="apples", value=3, at_least=1)])


def test_checks_are_chosen_by_name_and_pattern(validated):
    report = validated("k*", "special-tokens")
    assert [result.name for result in report.results] == ["load", "special-tokens", "kv-cache"]


def test_what_is_left_out_is_skipped_with_the_reason(validated):
    report = validated("*-reuse", "backends", options={"skip": "session-*"})
    result = report.result("session-reuse")
    assert (result.status, result.message) == (
        CheckStatus.SKIPPED,
        "left out because the options say so",
    )
    assert report.result("backends").status is CheckStatus.PASSED, "it was asked for by name"


def test_quick_leaves_out_what_loads_the_model_again(validated):
    report = validated(options={"only": (), "skip": ("[!bt]*", "batching")})
    assert report.result("backends").message == "left out of a quick validation"
    assert report.result("tokenizer-fallbacks").message == "left out of a quick validation"


def test_a_name_that_is_none_is_refused_with_those_there_are(models):
    with pytest.raises(ConfigError, match=r"there is no check 'kvcache'.* kv-cache") as caught:
        ValidationRunner(models["bpe"], options=ValidationOptions(only="kvcache"))
    assert caught.value.details["option"] == "only"


@pytest.mark.parametrize("pattern", ["load", "loa*"])
def test_loading_alone_can_be_asked_for(validated, pattern):
    report = validated(pattern)
    assert [result.name for result in report.results] == ["load"]
    assert report.passed


def test_loading_cannot_be_left_out(validated):
    with pytest.raises(ConfigError, match="'load' cannot be left out") as caught:
        validated(options={"only": (), "skip": "load"})
    assert caught.value.details["option"] == "skip"


@pytest.mark.parametrize("field", ["check_timeout", "min_decode_speed", "max_cancel_latency"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan])
def test_figures_that_cannot_be_are_refused(field, value):
    with pytest.raises(ConfigError, match=field):
        ValidationOptions(**{field: value})


def test_a_check_that_raises_has_failed_and_the_others_run(validated):
    def raising(_):
        raise ZeroDivisionError("by what?")

    def refusing(_):
        raise ConfigError(ReasonCode.OPTION_INVALID, "no", hint="say yes")

    table = [made("raises", raising), made("refuses", refusing), made("holds", holding)]
    report = validated("*", checks=table)
    raises, refuses, holds = report.results[1:]
    assert (raises.status, raises.reason) == (CheckStatus.FAILED, ReasonCode.ERROR)
    assert (raises.message, raises.error_type) == (
        "ZeroDivisionError: by what?",
        "ZeroDivisionError",
    )
    assert (refuses.reason, refuses.error_type) == (ReasonCode.OPTION_INVALID, "ConfigError")
    assert refuses.message == "no; say yes", "the code is told beside it"
    assert holds.status is CheckStatus.PASSED
    assert holds.figure("apples").value == 3
    assert not report.passed


def test_a_model_that_does_not_load_is_a_failed_check(validated, tmp_path):
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF\x03\x00\x00\x00")
    report = validated(model=broken)
    load, *others = report.results
    assert (load.name, load.status) == ("load", CheckStatus.FAILED)
    assert load.reason is ReasonCode.GGUF_TRUNCATED
    assert {result.message for result in others} == {"the model did not load"}
    assert (report.model, report.fingerprint, report.passed) == ("broken", "", False)


def test_a_model_that_is_unknown_is_an_error():
    with pytest.raises(RegistryError):
        ValidationRunner("no-such-model").run()


def test_a_cancelled_run_reports_what_there_was(validated):
    token = CancellationToken()

    def pressing(subject):
        token.cancel()
        subject.limit.check("validation")
        return holding(subject)

    table = [made("first", holding), made("pressed", pressing), made("last", holding)]
    report = validated("*", checks=table, cancellation=token)
    assert [result.status.value for result in report.results] == [
        "passed",
        "passed",
        "skipped",
        "skipped",
    ]
    assert report.result("pressed").message == "stopped before its end"
    assert report.result("last").message == "stopped before it was reached"
    assert report.result("last").reason is ReasonCode.CANCELLED_BY_CALLER
    assert report.interrupted
    assert not report.passed


def test_a_single_check_can_be_stopped(models):
    begun = threading.Event()

    def endless(subject):
        begun.set()
        while True:
            subject.generate("a", max_tokens=200, temperature=0.0, ignore_eos=True)

    runner = ValidationRunner(models["bpe"], checks=[made("endless", endless), made("b", holding)])
    stopper = threading.Thread(target=lambda: (begun.wait(30), runner.cancel_check()))
    stopper.start()
    report = runner.run()
    stopper.join()
    assert report.result("endless").message == "stopped before its end"
    assert report.result("b").status is CheckStatus.PASSED
    assert not report.interrupted


def test_a_check_that_takes_too_long_has_failed(validated):
    def endless(subject):
        while True:
            subject.generate("a", max_tokens=200, temperature=0.0, ignore_eos=True)

    report = validated("*", checks=[made("endless", endless)], options={"check_timeout": 0.5})
    result = report.result("endless")
    assert (result.status, result.reason) == (CheckStatus.FAILED, ReasonCode.CANCELLED_BY_TIMEOUT)


def test_ctrl_c_in_the_midst_leaves_the_report_to_be_had(models):
    def pressing(_):
        raise KeyboardInterrupt

    runner = ValidationRunner(models["bpe"], checks=[made("a", holding), made("b", pressing)])
    with pytest.raises(KeyboardInterrupt):
        runner.run()
    assert [result.name for result in runner.report().results] == ["load", "a"]


def test_results_are_told_as_they_come(validated):
    told: list[str] = []
    validated(
        "*",
        checks=[made("a", holding), made("b", lambda _: skipped("no"))],
        on_begin=lambda check: told.append(f"begin {check.name}"),
        on_result=lambda result: told.append(f"{result.name} {result.status}"),
    )
    assert told == ["load passed", "begin a", "a passed", "begin b", "b skipped"]


def test_nothing_passed_is_not_passed(validated):
    report = validated("*", checks=[made("a", lambda _: skipped("no"))])
    assert report.passed, "loading is a check"
    assert not dataclasses.replace(report, results=report.results[1:]).passed


@pytest.mark.parametrize(
    ("figure", "holds"),
    [
        (Figure(name="a", value=1.0), True),
        (Figure(name="a", value=math.nan), True),
        (Figure(name="a", value=1.0, at_most=1.0), True),
        (Figure(name="a", value=1.1, at_most=1.0), False),
        (Figure(name="a", value=0.9, at_least=1.0), False),
        (Figure(name="a", value=math.nan, at_most=1.0), False),
        (Figure(name="a", value=math.nan, at_least=1.0), False),
    ],
)
def test_figures_are_held_against_their_limits(figure, holds):
    assert figure.holds is holds


def test_names_of_checks_are_told_apart_and_plain():
    names = [check.name for check in CHECKS]
    assert len(set(names)) == len(names)
    assert all(name.replace("-", "").isalpha() and name.islower() for name in names)
    assert all(check.question.endswith("?") for check in CHECKS)


def test_the_engine_is_closed_whatever_happens(models):
    engines = []

    def keeping(path: Path, **kwargs):
        engines.append(logits_fault(lambda row, _: row)(path, **kwargs))
        return engines[-1]

    ValidationRunner(models["bpe"], load=keeping, checks=[made("a", holding)]).run()
    (engine,) = engines
    assert engine._core.closed


def test_the_page_lists_all_checks_and_what_they_ask():
    page = (Path(__file__).parents[3] / "docs/how-to/validate.md").read_text("utf-8")
    for check in CHECKS:
        assert f"| `{check.name}` | {check.question} |" in page
