"""The events that explain: why a token was late, and how sure the model was of it."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from smallmind_engine.telemetry.event_record import event
from smallmind_engine.telemetry.events import Event
from smallmind_engine.telemetry.kinds import EventKind

GENERATIONS: Final = 3
"""Of Python's garbage collector."""


class StallCause(StrEnum):
    """What held a token up, as far as the process can see."""

    GC = "gc"  # the garbage collector took half of the delay or more
    PAGE_FAULTS = "page_faults"  # memory had to be read from disk, or mapped anew
    PREEMPTED = "preempted"  # the system gave the core to others
    UNKNOWN = "unknown"


@event
class RuntimeStalled(Event):
    """A token came notably later than the ones before, or the garbage collector held it up.

    Rare by design: most tokens have none. It carries the ids of the request that waited.

    Attributes:
        index: the token that was late, 0 for the first one of the completion.
        duration_s: of the step that made it, with pauses of the collector just before it.
        typical_s: median of the recent steps of as many requests; 0 when there were none.
        cause: what took most of it.
        gc_s: pauses of the garbage collector within it, by generation from 0 to 2.
        minor_faults: pages that were mapped, by all threads of the process, in the step and at most
            seven before it; likewise the next two.
        major_faults: pages that were read from disk, by all threads of the process.
        involuntary_switches: times that the engine's thread lost its core.
    """

    kind = EventKind.RUNTIME_STALL

    model: str
    index: int
    duration_s: float
    typical_s: float
    cause: StallCause
    gc_s: tuple[float, ...]
    minor_faults: int
    major_faults: int
    involuntary_switches: int

    @property
    def gc_total_s(self) -> float:
        """Pauses of all generations."""
        return sum(self.gc_s)

    @property
    def explanation(self) -> str:
        """One line: ``token 37: 210 ms, of which 190 ms gen-2 GC``."""
        parts = [
            f"{seconds * 1e3:.0f} ms gen-{generation} GC"
            for generation, seconds in enumerate(self.gc_s)
            if seconds >= 0.0005
        ]
        counts = (
            (self.major_faults, "page faults from disk"),
            (self.involuntary_switches, "involuntary context switches"),
        )
        told = f"token {self.index}: {self.duration_s * 1e3:.0f} ms"
        if parts:
            told += f", of which {' and '.join(parts)}"
        return told + "".join(f"; {count} {what}" for count, what in counts if count)


@event
class TokenQuality(Event):
    """How sure the model was of a token; of numbers only, no text and no id.

    Only with ``quality_signals=True``. All are of the model's own distribution, before penalties,
    bias and temperature.

    Attributes:
        index: 0 for the first token of the completion.
        entropy: of the distribution, in nats.
        logprob: natural log-probability of the token that was chosen.
        rank: 1 for the likeliest token.
        margin: probability of the likeliest token less that of the second.
        removed_mass: probability of the tokens that the truncation (top-k, top-p and so on) left
            out of the draw; 0 for a greedy choice.
        repetition: share of the last 64 tokens that are repeats of others among them.
    """

    kind = EventKind.TOKEN_QUALITY

    model: str
    index: int
    entropy: float
    logprob: float
    rank: int
    margin: float
    removed_mass: float
    repetition: float
