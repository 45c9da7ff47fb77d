"""Which checks are run."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Final

from smallmind.validation.checks import Check
from smallmind.validation.options import ValidationOptions
from smallmind_engine.telemetry.errors import ConfigError
from smallmind_engine.telemetry.reasons import ReasonCode

LOAD: Final = "load"
"""The first result of every validation: whether the model loads at all."""


def chosen(checks: Sequence[Check], options: ValidationOptions) -> list[tuple[Check, str]]:
    """The checks that the options ask for, each with why it is left out (empty when it is not).

    Raises:
        ConfigError: a name is that of no check, or loading is to be left out.
    """
    names = [check.name for check in checks]
    if LOAD in options.skip:
        raise ConfigError(
            ReasonCode.OPTION_INVALID,
            f"{LOAD!r} cannot be left out: all other checks need the model",
            option="skip",
            value=LOAD,
        )
    # Loading is always done; who names nothing else gets just that.
    for option, patterns, known in (
        ("only", options.only, [LOAD, *names]),
        ("skip", options.skip, names),
    ):
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in known):
                raise ConfigError(
                    ReasonCode.OPTION_INVALID,
                    f"there is no check {pattern!r}; there are: {', '.join(known)}",
                    option=option,
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
