"""The console script: starts the command line, or says what it needs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

from smallmind._cli.exit_codes import ExitCode
from smallmind_engine.telemetry.errors import MissingExtraError

_PACKAGES: Final = frozenset({"typer", "rich"})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: without the program's name; those of the process when None.

    Returns:
        The exit code.
    """
    try:
        from smallmind._cli.app import run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _PACKAGES:
            raise
        sys.stderr.write(f"error: {MissingExtraError('cli', 'the command line')}\n")
        return ExitCode.CANNOT
    return run(arguments)
