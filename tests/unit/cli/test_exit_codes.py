"""What the command line answers to the shell."""

from __future__ import annotations

import types

import pytest
import typer

from smallmind import ReasonCode, SmallMindError, StopReason
from smallmind._cli.exit_codes import MEANINGS, ExitCode, exit_code_of
from smallmind._cli.failures import reported
from smallmind._cli.settings import DEBUG
from smallmind_engine.telemetry.errors import (
    BackpressureError,
    ConfigError,
    InferenceError,
    MemoryBudgetError,
    ModelFileError,
    OperationCancelledError,
    ValidationDataError,
)

OK = {
    StopReason.COMPLETED,
    StopReason.MAX_TOKENS,
    StopReason.STOP_SEQUENCE,
    StopReason.CONTEXT_FULL,
    StopReason.MEMORY_BUDGET_SOFT_LIMIT,
}


def outcome(error: BaseException | None = None, code: ExitCode | None = None) -> int:
    def command() -> ExitCode | None:
        if error is not None:
            raise error
        return code

    with pytest.raises(typer.Exit) as ended:
        reported(command)()
    return ended.value.exit_code


def test_every_code_is_explained():
    assert set(MEANINGS) == set(ExitCode)


@pytest.mark.parametrize("reason", StopReason)
def test_each_stop_reason_has_its_code(reason):
    expected = ExitCode.OK if reason in OK else ExitCode.FAILED
    if reason is StopReason.CANCELLED_BY_CALLER:
        expected = ExitCode.INTERRUPTED
    assert exit_code_of(types.SimpleNamespace(stop_reason=reason, structured=None)) is expected


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError(ReasonCode.OPTION_INVALID, "x"), 2),
        (ModelFileError(ReasonCode.GGUF_NOT_GGUF, "x"), 2),
        (MemoryBudgetError(ReasonCode.MEMORY_BUDGET_EXCEEDED, "x"), 2),
        (ValidationDataError(ReasonCode.GOLDEN_INVALID, "x"), 2),
        (InferenceError(ReasonCode.NON_FINITE_LOGITS, "x"), 1),
        (BackpressureError(ReasonCode.BACKPRESSURE_QUEUE_FULL, "x"), 1),
        (OperationCancelledError(ReasonCode.CANCELLED_BY_TIMEOUT, "x"), 1),
        (OperationCancelledError(ReasonCode.CANCELLED_BY_CALLER, "x"), 130),
        (KeyboardInterrupt(), 130),
        (BrokenPipeError(), 141),
        (PermissionError(13, "no", "file"), 2),
        (ZeroDivisionError("oops"), 70),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_each_error_has_its_code(error, code):
    assert outcome(error) == code


def test_a_command_that_says_nothing_went_well():
    assert outcome() == ExitCode.OK


def test_a_command_may_choose_its_code():
    assert outcome(code=ExitCode.FAILED) == ExitCode.FAILED


def test_an_error_is_one_line_with_its_reason_and_hint(capsys):
    outcome(SmallMindError(ReasonCode.OPTION_INVALID, "bad\nvalue \x1b[1m", hint="try 3"))
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "error: bad value \\x1b[1m; try 3 [OPTION_INVALID]\n"


def test_an_unforeseen_error_says_how_to_see_more(capsys):
    outcome(ZeroDivisionError("oops"))
    assert (
        capsys.readouterr().err == "error: ZeroDivisionError: oops; smallmind --debug shows where\n"
    )


def test_debug_shows_the_traceback_before_the_line(capsys):
    before = DEBUG.set(True)
    try:
        outcome(ZeroDivisionError("oops"))
    finally:
        DEBUG.reset(before)
    err = capsys.readouterr().err
    assert err.startswith("Traceback")
    assert err.endswith("error: ZeroDivisionError: oops\n")


def test_errors_of_the_command_line_itself_are_left_to_it():
    def command() -> None:
        raise typer.BadParameter("no")

    with pytest.raises(typer.BadParameter):
        reported(command)()
