"""What the command line answers to the shell."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Final

from smallmind_engine.runtime import GenerationResult, status_of
from smallmind_engine.telemetry import RequestStatus, StopReason


class ExitCode(IntEnum):
    """Exit codes; ``MEANINGS`` explains them."""

    OK = 0
    FAILED = 1
    CANNOT = 2
    BUG = 70
    INTERRUPTED = 130
    NO_READER = 141


MEANINGS: Final[Mapping[ExitCode, str]] = {
    ExitCode.OK: "Done; for `validate`: every check holds.",
    ExitCode.FAILED: "The work was begun, and did not go well: a check of `validate` does not"
    " hold (that its model loads is one of them), a request failed, was turned away or ran into its"
    " `--timeout`, an answer was cut short of its `--json-schema`, kernels of `warmup` cannot be"
    " kept. What there is was printed.",
    ExitCode.CANNOT: "The work could not be begun: wrong usage, an unknown or damaged model, a"
    " failed download, a golden file that cannot be compared, a missing extra.",
    ExitCode.BUG: "An error that nobody foresaw. Run it again with `smallmind --debug ...` and"
    " report the traceback.",
    ExitCode.INTERRUPTED: "Interrupted by Ctrl-C (SIGINT). What there is was printed.",
    ExitCode.NO_READER: "Whoever read the output went away, as `head` does.",
}


def exit_code_of(result: GenerationResult) -> ExitCode:
    """The exit code for how a request ended."""
    if result.stop_reason is StopReason.CANCELLED_BY_CALLER:
        return ExitCode.INTERRUPTED
    if result.structured is not None and not result.structured.complete:
        return ExitCode.FAILED
    completed = status_of(result.stop_reason) is RequestStatus.COMPLETED
    return ExitCode.OK if completed else ExitCode.FAILED
