"""Stop strings in streamed text, found wherever the borders of the tokens fall."""

from __future__ import annotations

from collections.abc import Sequence

from smallmind_engine.telemetry.errors import ConfigError
from smallmind_engine.telemetry.reasons import ReasonCode


class StopMatcher:
    """Lets text through until one of the stop strings is complete.

    The stop that ends first wins; of several that end at the same character, the longest one,
    so that no part of a stop string is ever shown. The text before it is kept, the stop itself and
    all that follows is dropped. Text that could still become a stop is withheld: never more than
    the longest stop less one character.

    How the text is cut into pieces changes nothing. Time is proportional to its length, for each
    stop, however the stops repeat themselves. Source of the matching: Knuth, Morris & Pratt 1977,
    "Fast Pattern Matching in Strings".

    Args:
        stops: the stop strings, none of them empty; no stops let everything through at once.

    Attributes:
        stopped: whether a stop was found.
        matched: the stop that was found.
        has_stops: whether there is any stop string.

    Raises:
        ConfigError: a stop is empty or no string, or ``stops`` is itself a string.

    >>> stop = StopMatcher(["</s>"])
    >>> stop.push("Hello <"), stop.push("/s"), stop.push("> more"), stop.matched
    ('Hello ', '', '', '</s>')
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self.stopped = False
        self.matched: str | None = None
        self._trackers = [_PrefixTracker(stop) for stop in _checked(stops)]
        self.has_stops = bool(self._trackers)
        self._withheld = ""

    def push(self, text: str) -> str:
        """Take the next piece; return what may be shown now, which can be nothing.

        Args:
            text: what the detokenizer gave; ignored once ``stopped``.
        """
        if self.stopped:
            return ""
        if not self._trackers:
            return text
        pending = self._withheld + text
        for position, character in enumerate(text, start=len(self._withheld) + 1):
            found = [tracker.stop for tracker in self._trackers if tracker.completes(character)]
            if found:
                self.matched = max(found, key=len)
                self.stopped = True
                self._withheld = ""
                return pending[: position - len(self.matched)]
        shown = len(pending) - max(tracker.length for tracker in self._trackers)
        self._withheld = pending[shown:]
        return pending[:shown]

    def flush(self) -> str:
        """The withheld text, once, for when generation ends without a stop."""
        rest, self._withheld = self._withheld, ""
        for tracker in self._trackers:
            tracker.length = 0
        return rest


class _PrefixTracker:
    """How much of one stop string the text so far ends with."""

    __slots__ = ("_fallback", "length", "stop")

    def __init__(self, stop: str) -> None:
        self.stop = stop
        self.length = 0
        self._fallback = _borders(stop)

    def completes(self, character: str) -> bool:
        """Take one more character; tell whether the stop string is complete."""
        length = self.length
        while length and self.stop[length] != character:
            length = self._fallback[length]
        if self.stop[length] == character:
            length += 1
        self.length = length
        return length == len(self.stop)


def _borders(stop: str) -> list[int]:
    """At ``n``: the longest proper prefix of ``stop[:n]`` that is also its suffix."""
    borders = [0] * (len(stop) + 1)
    length = 0
    for end in range(1, len(stop)):
        while length and stop[end] != stop[length]:
            length = borders[length]
        if stop[end] == stop[length]:
            length += 1
        borders[end + 1] = length
    return borders


def _checked(stops: Sequence[str]) -> tuple[str, ...]:
    if isinstance(stops, str):
        raise _refusal(stops, f"a list of strings, such as [{stops!r}]")
    for stop in stops:
        if not isinstance(stop, str):
            raise _refusal(stop, "strings only")
        if not stop:
            raise _refusal(stop, "strings of at least one character")
    return tuple(dict.fromkeys(stops))


def _refusal(value: object, allowed: str) -> ConfigError:
    return ConfigError(
        ReasonCode.OPTION_INVALID,
        f"option stop holds {value!r} ({type(value).__name__})",
        hint=f"allowed: {allowed}",
        option="stop",
        value=value,
        allowed=allowed,
    )
