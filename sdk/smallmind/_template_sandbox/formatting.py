"""Formatting of text with widths that cannot explode, and without access to attributes."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from typing import Final

from jinja2.exceptions import SecurityError

from smallmind._template_sandbox.budget import RenderBudget

_LONG_NUMBER: Final = re.compile(r"\d{4,}")
_PRINTF_FIELD: Final = re.compile(r"%(\([^)]*\))?([^a-zA-Z%]*)")
_WIDEST_FIELD: Final = 999  # by the pattern above


def formatted(text: str, budget: RenderBudget, /, *args: object, **kwargs: object) -> str:
    """``text.format(*args, **kwargs)`` for fields that are plain names or positions."""
    for _, field, spec, _ in string.Formatter().parse(text):
        if field is not None and ("." in field or "[" in field):
            raise SecurityError(f"the format field {field!r} reads an attribute or an item")
        if spec and ("{" in spec or _LONG_NUMBER.search(spec)):
            raise SecurityError(f"the format {spec!r} is not available")
    _foresee(budget, text, text.count("{"), [*args, *kwargs.values()])
    return text.format(*args, **kwargs)


def checked_printf(budget: RenderBudget, text: str, arguments: object) -> None:
    """Refuse ``text % arguments`` when a width in it is computed or huge."""
    for field in _PRINTF_FIELD.finditer(text):
        if "*" in field[2] or _LONG_NUMBER.search(field[2]):
            raise SecurityError(f"the format {field[0]!r} is not available")
    values = list(arguments.values()) if isinstance(arguments, Mapping) else [arguments]
    _foresee(budget, text, text.count("%"), values)


def _foresee(budget: RenderBudget, text: str, fields: int, values: list[object]) -> None:
    longest = max((len(str(value)) for value in values), default=0)
    budget.foresee(len(text) + fields * max(longest, _WIDEST_FIELD if fields else 0))
