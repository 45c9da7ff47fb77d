"""The kinds of events, one bit each, so that a set of kinds is one integer."""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class EventKind(IntEnum):
    """What an event is about. Values are single bits: combine them with ``|``."""

    LOG = 1 << 0
    MODEL_LOAD_STARTED = 1 << 1
    MODEL_LOAD_PROGRESS = 1 << 2
    MODEL_LOAD_ENDED = 1 << 3
    TOKENIZER_DIAGNOSED = 1 << 4
    REQUEST_QUEUED = 1 << 5
    REQUEST_ADMITTED = 1 << 6
    REQUEST_REJECTED = 1 << 7
    INFERENCE_STARTED = 1 << 8
    PREFILL_ENDED = 1 << 9
    FIRST_TOKEN = 1 << 10
    TOKEN_GENERATED = 1 << 11
    INFERENCE_STOPPED = 1 << 12
    KV_CACHE_LOOKUP = 1 << 13
    KV_CACHE_EVICTED = 1 << 14
    KV_CACHE_USAGE = 1 << 15
    MEMORY_HIGH_WATER = 1 << 16
    MEMORY_BUDGET = 1 << 17
    DEGRADED = 1 << 18
    BACKPRESSURE_APPLIED = 1 << 19
    KERNELS_PREPARED = 1 << 20
    KERNEL_EXECUTED = 1 << 21
    MACHINE_MEASURED = 1 << 22
    BATCH_STEPPED = 1 << 23
    MEMORY_USAGE = 1 << 24
    RUNTIME_STALL = 1 << 29
    TOKEN_QUALITY = 1 << 30
    GRAMMAR = 1 << 31
    SNAPSHOT = 1 << 27
    REQUEST_RECORDED = 1 << 32
    RETRIEVAL_STARTED = 1 << 25
    RETRIEVAL_ENDED = 1 << 26
    EMBEDDING_ENDED = 1 << 28


NO_KINDS: Final = 0
BY_NAME_ONLY: Final = EventKind.SNAPSHOT | EventKind.REQUEST_RECORDED
"""Kinds that nobody gets who does not ask for them by name: they are for logs."""
ALL_KINDS: Final = sum(EventKind) & ~BY_NAME_ONLY
"""All other kinds."""
FREQUENT: Final = int(
    EventKind.TOKEN_GENERATED
    | EventKind.TOKEN_QUALITY
    | EventKind.KERNEL_EXECUTED
    | EventKind.BATCH_STEPPED
)
"""Kinds that come with every token, or more often."""
