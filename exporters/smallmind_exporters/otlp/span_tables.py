"""Which spans and span events there are, as tables; the page in the docs is made from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from smallmind_engine.telemetry import EventKind


@dataclass(frozen=True, slots=True)
class Phase:
    """A child span: from the first event of one kind to the first of another.

    Attributes:
        name: of the span.
        begin: the kind whose event begins it; without one there is no such span.
        end: the kind whose event ends it; the end of the operation when there is none.
        fields: fields of the event that ends it, as attributes.
        details: whether events of each token belong to it.
    """

    name: str
    begin: EventKind
    end: EventKind
    fields: tuple[str, ...] = ()
    details: bool = False


PHASES: Final[tuple[Phase, ...]] = (
    Phase("queue", EventKind.REQUEST_QUEUED, EventKind.REQUEST_ADMITTED, ("queue_depth",)),
    Phase(
        "prefill",
        EventKind.INFERENCE_STARTED,
        EventKind.PREFILL_ENDED,
        ("computed_tokens", "cached_tokens"),
    ),
    Phase("decode", EventKind.PREFILL_ENDED, EventKind.INFERENCE_STOPPED, details=True),
)

# Steps that are events of the operation's span, and the fields that they carry there.
STEP_EVENTS: Final[dict[EventKind, tuple[str, tuple[str, ...]]]] = {
    EventKind.FIRST_TOKEN: ("smallmind.first_token", ("time_to_first_token_s",)),
    EventKind.KV_CACHE_LOOKUP: (
        "smallmind.kv_cache.lookup",
        ("hit", "prompt_tokens", "reused_tokens"),
    ),
    EventKind.KV_CACHE_EVICTED: (
        "smallmind.kv_cache.eviction",
        ("tokens", "freed_bytes", "reason"),
    ),
    EventKind.MEMORY_BUDGET: (
        "smallmind.memory.budget",
        ("reason", "category", "wanted_bytes", "granted_bytes", "limit_bytes"),
    ),
    EventKind.DEGRADED: ("smallmind.degraded", ("component", "reason", "message")),
    EventKind.BACKPRESSURE_APPLIED: (
        "smallmind.backpressure",
        ("reason", "policy", "depth", "limit"),
    ),
    EventKind.REQUEST_REJECTED: ("smallmind.rejected", ("reason", "queue_depth", "limit")),
    EventKind.TOKENIZER_DIAGNOSED: (
        "smallmind.tokenizer",
        ("tokenizer_type", "tokenizer_kind", "vocab_size", "issues"),
    ),
    EventKind.RUNTIME_STALL: (
        "smallmind.stall",
        (
            *("index", "duration_s", "typical_s", "cause", "gc_total_s", "explanation"),
            *("minor_faults", "major_faults", "involuntary_switches"),
        ),
    ),
    EventKind.KERNELS_PREPARED: (
        "smallmind.kernels.prepared",
        ("isa", "compiled", "cached", "duration_s"),
    ),
}
TOKEN_EVENT: Final = "smallmind.token"  # noqa: S105 - a name
TOKEN_FIELDS: Final = ("index", "engine_s", "consumer_s")
KERNEL_EVENT: Final = "smallmind.kernel"
KERNEL_FIELDS: Final = (
    *("op", "layer", "quantization", "tokens"),
    *("duration_s", "read_bytes", "flops"),
)
MOST_FIELDS: Final = max(len(TOKEN_FIELDS) + 1, len(KERNEL_FIELDS))
"""Attributes that a detail has at most: a token may have its id besides."""
