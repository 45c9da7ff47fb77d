"""Which checks are run."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from smallmind.validation.checks import Check
from smallmind.validation.options import ValidationOptions
from smallmind_engine.telemetry.errors import ConfigError
from smallmind_engine.telemetry.reasons import ReasonCode


def chosen(checks: Sequence[Check], options: ValidationOptions) -> list[tuple[Check, str]]:
    """The checks that the options ask for, each with why it is left out (empty when it is not).

    Raises:
        ConfigError: a name is that of no check.
    """
    for pattern in (*options.only, *options.skip):
        if not any(fnmatchcase(check.name, pattern) for check in checks):
            raise ConfigError(
                ReasonCode.OPTION_INVALID,
                f"there is no check {pattern!r}; there are:"
                f" {', '.join(check.name for check in checks)}",
                option="only" if pattern in options.only else "skip",
                value=pattern,
            )
    return [
        (check, _left_out(check, options))
        for check in checks
        if not options.only or _among(check, options.only)
    ]


def _left_out(check: Check, options: ValidationOptions) -> str:
    if _among(check, options.skip):
        return "left out because the options say so"
    # Who names a check wants it, however quick it is to be.
    if options.quick and not check.quick and not _among(check, options.only):
        return "left out of a quick validation"
    return ""


def _among(check: Check, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(check.name, pattern) for pattern in patterns)
