"""Tail expansion: which requests are told in full detail, decided when they have ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from smallmind_engine.telemetry import InferenceStopped, RequestStatus


class SpanDetail(StrEnum):
    """How much of a request its spans tell; each level tells what the one before does too."""

    REQUEST = "request"  # the request and its phases
    TOKEN = "token"  # each token, as an event of its phase  # noqa: S105 - a word, no secret
    KERNEL = "kernel"  # each operation of each layer, as an event of its phase


class ExpansionCause(StrEnum):
    """Why a request was told in more detail than others."""

    SLOW = "slow"
    FAILED = "failed"
    FLAGGED = "flagged"


@dataclass(frozen=True, slots=True, kw_only=True)
class TailExpansion:
    """Tells requests that are worth it in more detail than the rest.

    Each request keeps the last of its detailed events until it ends; only then it is decided
    whether they become part of its spans or are forgotten.

    Attributes:
        detail: of the requests that are expanded; ``kernel`` needs an engine with that detail.
        slow_s: expand those that took at least so many seconds; None for no limit.
        slow_first_token_s: the same for the seconds to the first token.
        slow_token_s: the same for the slowest engine time between two tokens.
        failed: expand those that failed or were rejected.
        flag: expand those for which it is true. It is called in the exporter's thread; when it
            raises, the request counts as flagged.
    """

    detail: SpanDetail | str = SpanDetail.TOKEN
    slow_s: float | None = None
    slow_first_token_s: float | None = None
    slow_token_s: float | None = None
    failed: bool = True
    flag: Callable[[InferenceStopped], bool] | None = None

    def cause(
        self, stop: InferenceStopped, slowest_token_s: float, *, flagged: bool
    ) -> ExpansionCause | None:
        """Why to expand a request; None when it is like the others.

        Args:
            stop: its end.
            slowest_token_s: most seconds that the engine worked between two of its tokens.
            flagged: whether its id was flagged.
        """
        if flagged or self._is_flagged(stop):
            return ExpansionCause.FLAGGED
        if self.failed and stop.status in {RequestStatus.FAILED, RequestStatus.REJECTED}:
            return ExpansionCause.FAILED
        slow = (
            (stop.duration_s, self.slow_s),
            (stop.time_to_first_token_s, self.slow_first_token_s),
            (slowest_token_s, self.slow_token_s),
        )
        if any(took is not None and limit is not None and took >= limit for took, limit in slow):
            return ExpansionCause.SLOW
        return None

    def _is_flagged(self, stop: InferenceStopped) -> bool:
        if self.flag is None:
            return False
        try:
            return bool(self.flag(stop))
        except Exception:  # noqa: BLE001 - the host's function; better too much detail than none
            return True
