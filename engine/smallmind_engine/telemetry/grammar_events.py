"""The event of structured output: what holding an answer to a grammar took, and what came of it."""

from __future__ import annotations

from smallmind_engine.telemetry.event_record import event
from smallmind_engine.telemetry.events import Event
from smallmind_engine.telemetry.kinds import EventKind


@event
class GrammarApplied(Event):
    """A request that was held to a grammar ended. Nothing in it tells of the grammar's content.

    Attributes:
        format: ``json_schema``, ``json_object``, ``regex``, ``choice``, ``grammar`` or ``forms``.
        complete: whether the answer is whole; one that was cut short is not.
        cached: whether the grammar was compiled before.
        compile_s: time until the grammar was ready, in the caller's thread.
        masks: how often it was asked which tokens may follow.
        mask_s: time that this took.
        allowed_tokens: how many tokens were allowed, over all masks.
        vocab_size: of the model.
    """

    kind = EventKind.GRAMMAR

    model: str
    format: str
    complete: bool
    cached: bool
    compile_s: float
    masks: int
    mask_s: float
    allowed_tokens: int
    vocab_size: int
