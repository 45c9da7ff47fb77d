"""What one rendering may use: time, memory, and the size of each value it makes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from smallmind_engine.telemetry import ChatTemplateError, ReasonCode


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateLimits:
    """Bounds of a rendering; the defaults leave room for a million tokens of conversation.

    Attributes:
        source_chars: length of the template itself.
        source_tokens: words, signs and blanks that it is made of.
        value_chars: characters in one value, nested ones counted.
        value_items: items in one value, nested ones counted.
        depth: nesting of a value.
        integer_bits: size of a whole number.
        argument: largest whole number that a filter takes, such as a width.
        range_items: length of a ``range()``.
        work_chars: characters made altogether, intermediate texts included.
        output_chars: length of the rendered prompt.
        seconds: time for the rendering.
    """

    source_chars: int = 100_000
    source_tokens: int = 20_000
    value_chars: int = 8_000_000
    value_items: int = 200_000
    depth: int = 64
    integer_bits: int = 1024
    argument: int = 10_000
    range_items: int = 10_000
    work_chars: int = 64_000_000
    output_chars: int = 8_000_000
    seconds: float = 5.0


LIMITS: Final = TemplateLimits()


class RenderBudget:
    """Counts what one rendering uses, and ends it when it uses too much.

    Args:
        limits: the bounds.
        now: local time, for ``strftime_now``.
        clock: monotonic seconds.
    """

    __slots__ = ("_clock", "_deadline_s", "_work_chars", "limits", "now")

    def __init__(
        self,
        limits: TemplateLimits,
        now: Callable[[], datetime],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.limits = limits
        self.now = now
        self._clock = clock
        self._deadline_s = clock() + limits.seconds
        self._work_chars = 0

    def step(self) -> None:
        """One more operation. Raises ``ChatTemplateError`` when the time is up."""
        if self._clock() >= self._deadline_s:
            raise exceeded("took longer", self.limits.seconds, "seconds")

    def spend(self, chars: int) -> None:
        """Count new text. Raises ``ChatTemplateError`` when it was too much altogether."""
        self._work_chars += chars
        if self._work_chars > self.limits.work_chars:
            raise exceeded("made more text", self.limits.work_chars, "characters")

    def foresee(self, chars: int) -> None:
        """Refuse a text of this length before it is made."""
        if chars > self.limits.value_chars:
            raise exceeded("made a longer text", self.limits.value_chars, "characters")

    def foresee_items(self, count: int) -> None:
        """Refuse a list of this length before it is made."""
        if count > self.limits.value_items:
            raise exceeded("made a larger value", self.limits.value_items, "items")

    def accept(self, value: object) -> object:
        """Pass on a new value if it is within bounds; else raise ``ChatTemplateError``."""
        if isinstance(value, str):
            self.foresee(len(value))
            self.spend(len(value))
        elif isinstance(value, int):
            if value.bit_length() > self.limits.integer_bits:
                raise exceeded("made a larger number", self.limits.integer_bits, "bits")
        elif isinstance(value, (list, tuple, dict)):
            self.measure(value)
            self.spend(len(value))
        return value

    def measure(self, value: object) -> None:
        """Refuse a value whose text, or whose comparison with another, could grow without end.

        Shared parts count as often as they are reached, because that is how often they print.
        """
        items = chars = 0
        waiting: list[tuple[object, int]] = [(value, 0)]
        while waiting:
            part, depth = waiting.pop()
            items += 1
            if isinstance(part, str):
                chars += len(part)
            else:
                waiting.extend((inner, depth + 1) for inner in _inside(part))
            self.foresee_items(items + len(waiting))
            if depth > self.limits.depth:
                raise exceeded("nested a value deeper", self.limits.depth, "levels")
        self.foresee(chars)

    def check_arguments(self, arguments: Iterable[object]) -> None:
        """Refuse widths and counts that only serve to make something huge."""
        for argument in arguments:
            if isinstance(argument, int) and abs(argument) > self.limits.argument:
                raise exceeded("passed a filter a larger number", self.limits.argument)


def _inside(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    return value if isinstance(value, (list, tuple)) else ()


def exceeded(what: str, limit: float, unit: str = "") -> ChatTemplateError:
    """The error for a template that went beyond a limit."""
    allowed = f"{limit:,} {unit}".rstrip()
    return ChatTemplateError(
        ReasonCode.CHAT_TEMPLATE_INVALID,
        f"the chat template {what} than the {allowed} it is allowed",
        hint="pass a template= of your own",
        limit=limit,
    )
