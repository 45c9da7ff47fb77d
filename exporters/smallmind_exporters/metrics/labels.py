"""The labels of the metrics: bounded sets of values only, never an id."""

from __future__ import annotations

from typing import Final

from smallmind_engine.telemetry import (
    DegradeReason,
    LogLevel,
    Phase,
    ReasonCode,
    RequestStatus,
    StallCause,
    StopReason,
)
from smallmind_exporters import conventions
from smallmind_exporters.metrics.family import Label

FEW: Final = 16

# Which status goes with which stop reason; other pairs appear when they occur.
OUTCOMES: Final[tuple[tuple[RequestStatus, StopReason], ...]] = (
    (RequestStatus.COMPLETED, StopReason.COMPLETED),
    (RequestStatus.COMPLETED, StopReason.MAX_TOKENS),
    (RequestStatus.COMPLETED, StopReason.STOP_SEQUENCE),
    (RequestStatus.COMPLETED, StopReason.CONTEXT_FULL),
    (RequestStatus.COMPLETED, StopReason.MEMORY_BUDGET_SOFT_LIMIT),
    (RequestStatus.CANCELLED, StopReason.CANCELLED_BY_CALLER),
    (RequestStatus.CANCELLED, StopReason.CANCELLED_BY_TIMEOUT),
    (RequestStatus.CANCELLED, StopReason.BACKPRESSURE_BUFFER_FULL),
    (RequestStatus.REJECTED, StopReason.BACKPRESSURE_QUEUE_FULL),
    (RequestStatus.REJECTED, StopReason.MEMORY_BUDGET_EXCEEDED),
    (RequestStatus.FAILED, StopReason.ERROR),
)

MODEL: Final = Label("model", "name under which the model was loaded", limit=50)
OPERATION: Final = Label("operation", "what was asked for", ("text_completion", "chat"), limit=FEW)
STATUS: Final = Label("status", "how it ended", tuple(RequestStatus))
STOP_REASON: Final = Label("reason", "why the request stopped", tuple(StopReason))
# What ends requests; others, such as errors of callers' own callbacks, appear when they occur.
ERROR_TYPE: Final = Label(
    "error_type",
    "class of the error",
    (
        "BackpressureError",
        "ChatTemplateError",
        "ClosedError",
        "ConcurrentSessionUseError",
        "ContextOverflowError",
        "InferenceError",
        "MemoryBudgetError",
        "TokenizerError",
    ),
    limit=32,
)
LOAD_STATUS: Final = Label(
    "status",
    "how the load ended",
    (RequestStatus.COMPLETED, RequestStatus.CANCELLED, RequestStatus.FAILED),
)
REJECT_REASON: Final = Label(
    "reason",
    "why it was turned away",
    (
        ReasonCode.BACKPRESSURE_QUEUE_FULL,
        ReasonCode.MEMORY_BUDGET_EXCEEDED,
        ReasonCode.CLOSED,
    ),
)
BACKPRESSURE_REASON: Final = Label(
    "reason",
    "what was full",
    (ReasonCode.BACKPRESSURE_BUFFER_FULL, ReasonCode.BACKPRESSURE_QUEUE_FULL),
)
POLICY: Final = Label("policy", "what was done about it", limit=FEW)
# The policies of the stream's buffer, and the one of the queue.
BACKPRESSURE_POLICIES: Final[tuple[tuple[ReasonCode, str], ...]] = (
    (ReasonCode.BACKPRESSURE_BUFFER_FULL, "block"),
    (ReasonCode.BACKPRESSURE_BUFFER_FULL, "cancel"),
    (ReasonCode.BACKPRESSURE_BUFFER_FULL, "drop_request"),
    (ReasonCode.BACKPRESSURE_QUEUE_FULL, "reject"),
)
BUDGET_REASON: Final = Label(
    "reason",
    "whether less was given, or nothing",
    (ReasonCode.MEMORY_BUDGET_SOFT_LIMIT, ReasonCode.MEMORY_BUDGET_EXCEEDED),
)
CATEGORY: Final = Label(
    "category",
    "what the memory is for",
    ("weights", "kv_cache", "scratch", "prefix_store", "tokenizer", "kernels"),
    limit=FEW,
)
EVICTION_REASON: Final = Label(
    "reason",
    "why it was dropped",
    (DegradeReason.KV_CACHE_EVICTION, DegradeReason.MEMORY_BUDGET_SOFT_LIMIT),
)
DEGRADE_REASON: Final = Label("reason", "what works less well", tuple(DegradeReason))
TOKENIZER_REASON: Final = Label(
    "reason",
    "what the tokenizer lacks, or which fallback it took",
    tuple(reason for reason in DegradeReason if reason.startswith("TOKENIZER_")),
)
PHASE: Final = Label("phase", "where the request's time went", tuple(Phase))
LOAD_PHASE: Final = Label("phase", "the step of loading", limit=FEW)
SOURCE: Final = Label(
    "source", "whether prefill computed them or found them cached", ("computed", "cached")
)
TOKEN_TYPE: Final = Label(
    "type",
    "whether the request brought them or they were generated",
    (conventions.TOKEN_INPUT, conventions.TOKEN_OUTPUT),
)
KERNEL_SOURCE: Final = Label(
    "source", "whether they were compiled or found compiled", ("compiled", "cached")
)
BATCH_KIND: Final = Label(
    "kind", "whether they were of prompts or generated", ("prefill", "decode")
)
STALL_CAUSE: Final = Label("cause", "what held the token up", tuple(StallCause))
GENERATION: Final = Label("generation", "of the garbage collector", ("0", "1", "2"))
FAULT_KIND: Final = Label(
    "kind", "whether pages were mapped, or read from disk", ("minor", "major")
)
CHOICE: Final = Label("choice", "whether it was the likeliest", ("best", "other"))
NON_FINITE_AT: Final = Label(
    "at", "`embedding`, a layer, or `output`", ("embedding", "output"), limit=256
)
OP: Final = Label("op", "the operation of the model", limit=FEW)
OPERAND_TYPES: Final = Label(
    "quantization", "types of what the operation read, joined with `+`", limit=50
)
RETRIEVAL_MODE: Final = Label(
    "mode", "what ranked the sources", ("lexical", "dense", "hybrid"), limit=FEW
)
RETRIEVAL_PHASE: Final = Label(
    "phase",
    "the step of the retrieval",
    ("embed", "lexical", "dense", "fuse", "read", "rerank"),
    limit=FEW,
)
RETRIEVAL_REASON: Final = Label(
    "reason",
    "why no answer could be given from the sources",
    (ReasonCode.RAG_EVIDENCE_INSUFFICIENT,),
    limit=FEW,
)
RESPONSE_FORMAT: Final = Label(
    "format",
    "what the answer had to look like",
    ("json_schema", "json_object", "regex", "choice", "grammar", "forms"),
    limit=FEW,
)
WHOLE: Final = Label("outcome", "whether it came to its end", ("complete", "incomplete"))
GRAMMAR_RESULT: Final = Label("result", "whether it had been compiled before", ("hit", "miss"))
RESULT: Final = Label("result", "whether any token could be reused", ("hit", "miss"))
LEVEL: Final = Label("level", "severity", tuple(level.name.lower() for level in LogLevel))
EXPORTER: Final = Label("exporter", "name of the exporter", limit=FEW)
ARCHITECTURE: Final = Label("architecture", "model family", limit=FEW)
QUANTIZATION: Final = Label("quantization", "type of most weights", limit=FEW)
BACKEND: Final = Label("backend", "kernels that run it", limit=FEW)
PARAMETERS: Final = Label("parameters", "number of weights", limit=50)
CONTEXT_LENGTH: Final = Label("context_length", "tokens of the context window", limit=50)
FINGERPRINT: Final = Label("fingerprint", "identifies the model file", limit=50)
