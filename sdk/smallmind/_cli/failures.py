"""Errors become one line on the standard error and an exit code, never a traceback."""

from __future__ import annotations

import functools
import sys
import traceback
from collections.abc import Callable
from typing import Final, ParamSpec

import typer

from smallmind._cli.exit_codes import ExitCode
from smallmind._cli.formatting import one_line
from smallmind._cli.screen import Screen
from smallmind._cli.settings import DEBUG
from smallmind_engine.telemetry import ReasonCode, SmallMindError
from smallmind_engine.telemetry.errors import (
    BackpressureError,
    InferenceError,
    OperationCancelledError,
)

_P = ParamSpec("_P")

_OF_REQUESTS: Final = (InferenceError, BackpressureError, OperationCancelledError)


def reported(command: Callable[_P, ExitCode | None]) -> Callable[_P, None]:
    """Run ``command``, report its error if it has one, and leave with its exit code."""

    @functools.wraps(command)
    def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            code = command(*args, **kwargs)
            sys.stdout.flush()
        except KeyboardInterrupt:
            _say("interrupted")
            code = ExitCode.INTERRUPTED
        except BrokenPipeError:
            code = ExitCode.NO_READER
        except SmallMindError as error:
            code = tell(error)
        except (typer.Exit, typer.Abort, typer.BadParameter):
            raise
        except OSError as error:
            code = _tell_unforeseen(error, ExitCode.CANNOT)
        except Exception as error:  # noqa: BLE001 - the last stop before the user
            code = _tell_unforeseen(error, ExitCode.BUG)
        raise typer.Exit(code or ExitCode.OK)

    return wrapper


def tell(error: SmallMindError) -> ExitCode:
    """Write the error's line; answers with its exit code."""
    _tell_traceback()
    _say(f"error: {one_line(str(error))}")
    if error.reason is ReasonCode.CANCELLED_BY_CALLER:
        return ExitCode.INTERRUPTED
    return ExitCode.FAILED if isinstance(error, _OF_REQUESTS) else ExitCode.CANNOT


def _tell_unforeseen(error: Exception, code: ExitCode) -> ExitCode:
    shown = _tell_traceback()
    hint = "" if shown or code is not ExitCode.BUG else "; smallmind --debug shows where"
    _say(f"error: {type(error).__name__}: {one_line(str(error))}{hint}")
    return code


def _say(line: str) -> None:
    Screen.open().note(line, "red")


def _tell_traceback() -> bool:
    if DEBUG.get():
        traceback.print_exc()
        return True
    return False
