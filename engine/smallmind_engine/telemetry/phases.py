"""The phases of a request: the rows of its time ledger."""

from __future__ import annotations

from enum import StrEnum


class Phase(StrEnum):
    """Where a request's time goes. At any moment a request is in exactly one phase."""

    QUEUE = "queue"
    TOKENIZE = "tokenize"
    GRAMMAR = "grammar"
    PREFILL = "prefill"
    DECODE = "decode"
    MASK = "mask"
    SAMPLE = "sample"
    DETOKENIZE = "detokenize"
    CONSUMER = "consumer"
    TELEMETRY = "telemetry"
    UNATTRIBUTED = "unattributed"
