"""What becomes of a conversation that outgrows the context: policies.

A policy chooses the part of a conversation that goes into the prompt. The conversation itself is
kept whole, and the newest turn is always part of the prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from smallmind._chat_conversation import SUMMARY_HEADING, Message, Window, system_message
from smallmind_engine.telemetry import ReasonCode
from smallmind_engine.telemetry.errors import ConfigError


@dataclass(frozen=True, slots=True)
class HistoryView:
    """What a policy sees.

    Attributes:
        turns: messages by turn; the last turn is the one that waits for its answer.
        window: what went into the prompt before.
        room: tokens that a prompt may have.
        fits: whether the prompt with another window has so many tokens at most.
    """

    turns: Sequence[Sequence[Message]]
    window: Window
    room: int
    fits: Callable[[Window, int], bool]

    @property
    def newest(self) -> int:
        """Place of the turn that waits for its answer."""
        return len(self.turns) - 1

    def oldest_that_fits(self, first: int, room: int, summary: str | None = None) -> int:
        """The earliest turn, from ``first`` on, with which a prompt has ``room`` tokens at most.

        That is the newest turn when not even this one fits.
        """
        low, high = first, self.newest
        while low < high:
            middle = (low + high) // 2
            if self.fits(Window(middle, summary), room):
                high = middle
            else:
                low = middle + 1
        return low


class HistoryPolicy(Protocol):
    """Chooses what of a conversation goes into a prompt."""

    def choose(self, history: HistoryView, /) -> Window:
        """The window of the next prompt."""
        ...


@dataclass(frozen=True, slots=True)
class FullHistory:
    """Everything: a conversation that outgrows the context is refused with an error."""

    def choose(self, history: HistoryView, /) -> Window:  # noqa: ARG002 - the protocol's
        """All turns."""
        return Window()


@dataclass(frozen=True, slots=True, kw_only=True)
class SlidingHistory:
    """The newest turns that fit: the oldest are left out, the system prompt stays.

    Attributes:
        slack: share of the room that is made free at once, so that not every turn shifts the
            prompt: a shifted prompt is computed anew.
    """

    slack: float = 0.25

    def __post_init__(self) -> None:
        """Check the share."""
        _check_share("slack", self.slack)

    def choose(self, history: HistoryView, /) -> Window:
        """The window as it was if that fits; else one that begins later."""
        window = history.window
        if window.first >= history.newest or history.fits(window, history.room):
            return window
        target = int(history.room * (1.0 - self.slack))
        return Window(history.oldest_that_fits(window.first + 1, target))


@dataclass(frozen=True, slots=True, kw_only=True)
class SummarizedHistory:
    """The newest turns, and a summary of those before them.

    Attributes:
        summarize: makes a summary of messages; the first one is the summary before, if there was
            one. It runs inside the call that needs it; what it raises ends that call, and the
            conversation stays as it was.
        keep: share of the room that the newest turns may fill; the summary takes of the rest.
    """

    summarize: Callable[[Sequence[Message]], str]
    keep: float = 0.5

    def __post_init__(self) -> None:
        """Check the share."""
        _check_share("keep", self.keep)

    def choose(self, history: HistoryView, /) -> Window:
        """The window as it was if that fits; else a new summary and fewer turns."""
        window = history.window
        if window.first >= history.newest or history.fits(window, history.room):
            return window
        first = history.oldest_that_fits(window.first + 1, int(history.room * self.keep))
        before = (
            [] if window.summary is None else [system_message(SUMMARY_HEADING + window.summary)]
        )
        left_out = [message for turn in history.turns[window.first : first] for message in turn]
        summary = str(self.summarize([*before, *(dict(message) for message in left_out)]))
        first = history.oldest_that_fits(first, history.room, summary)
        shortened = Window(first, summary)
        # A summary that leaves no room for the newest turn is worth less than that turn.
        return shortened if history.fits(shortened, history.room) else Window(first)


def _check_share(name: str, share: float) -> None:
    if not 0.0 < share < 1.0:
        raise ConfigError(
            ReasonCode.OPTION_INVALID,
            f"{name} is {share!r}; it must be a number between 0 and 1",
            option=name,
            value=share,
        )
