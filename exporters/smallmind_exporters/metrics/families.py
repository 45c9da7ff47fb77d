"""The table of metrics: one entry per family; instruments and the reference page follow from it.

To add a metric, add an entry. Names follow the conventions of Prometheus: base units, ``_total``
on counters, labels with few values. Counters rather than rates, two gauges rather than a percent.
"""

from __future__ import annotations

from typing import Final

from smallmind_engine.telemetry import (
    BackpressureApplied,
    InferenceStopped,
    KernelsPrepared,
    KVCacheEvicted,
    KVCacheLookup,
    KVCacheUsage,
    MemoryBudgetEvent,
    MemoryHighWater,
    MemoryUsage,
    ModelLoadEnded,
    PrefillEnded,
    RequestAdmitted,
    RequestRejected,
    TokenGenerated,
    TokenizerDiagnosed,
)
from smallmind_exporters import conventions
from smallmind_exporters.metrics import buckets, labels, readings
from smallmind_exporters.metrics.batch_families import BATCH_FAMILIES
from smallmind_exporters.metrics.embedding_families import EMBEDDING_FAMILIES
from smallmind_exporters.metrics.family import (
    Family,
    Gauging,
    MetricKind,
    Stage,
    count,
    one,
    rows,
)
from smallmind_exporters.metrics.grammar_families import GRAMMAR_FAMILIES
from smallmind_exporters.metrics.insight_families import INSIGHT_FAMILIES
from smallmind_exporters.metrics.kernel_families import KERNEL_FAMILIES
from smallmind_exporters.metrics.retrieval_families import RETRIEVAL_FAMILIES
from smallmind_exporters.metrics.telemetry_families import TELEMETRY_FAMILIES

PREFIX: Final = "smallmind_"

FAMILIES: Final[tuple[Family, ...]] = (
    # Requests.
    Family(
        name="requests_total",
        kind=MetricKind.COUNTER,
        help="Requests that ended, in whatever way.",
        annotation="{request}",
        labels=(labels.MODEL, labels.OPERATION, labels.STATUS, labels.STOP_REASON),
        combinations=tuple(
            (operation, status, reason)
            for operation in labels.OPERATION.values
            for status, reason in labels.OUTCOMES
        ),
        readings=(rows(InferenceStopped, lambda e: (((e.operation, e.status, e.reason), 1),)),),
    ),
    Family(
        name="requests_in_flight",
        kind=MetricKind.GAUGE,
        help="Requests that run now.",
        annotation="{request}",
        labels=(labels.MODEL,),
        stage=Stage.RUNNING,
    ),
    Family(
        name="queue_depth",
        kind=MetricKind.GAUGE,
        help="Requests that wait in the queue now.",
        annotation="{request}",
        labels=(labels.MODEL,),
        stage=Stage.WAITING,
    ),
    Family(
        name="rejected_total",
        kind=MetricKind.COUNTER,
        help="Requests turned away before they ran.",
        annotation="{request}",
        labels=(labels.MODEL, labels.REJECT_REASON),
        readings=(rows(RequestRejected, lambda e: (((e.reason,), 1),)),),
    ),
    Family(
        name="backpressure_total",
        kind=MetricKind.COUNTER,
        help="Times that a full queue or buffer had an effect.",
        annotation="{event}",
        labels=(labels.MODEL, labels.BACKPRESSURE_REASON, labels.POLICY),
        combinations=labels.BACKPRESSURE_POLICIES,
        readings=(rows(BackpressureApplied, lambda e: (((e.reason, e.policy), 1),)),),
    ),
    # Time.
    Family(
        name="request_errors_total",
        kind=MetricKind.COUNTER,
        help="Requests that failed or were turned away, by the class of the error.",
        annotation="{request}",
        labels=(labels.MODEL, labels.ERROR_TYPE),
        readings=(rows(InferenceStopped, readings.error_rows),),
    ),
    Family(
        name="request_duration_seconds",
        kind=MetricKind.HISTOGRAM,
        help="Time from the submission of a request to its end.",
        unit="seconds",
        labels=(labels.MODEL, labels.STATUS),
        buckets=buckets.DURATION,
        readings=(rows(InferenceStopped, lambda e: (((e.status,), e.duration_s),)),),
        exemplars=True,
        convention=conventions.SERVER_REQUEST_DURATION,
    ),
    Family(
        name="queue_seconds",
        kind=MetricKind.HISTOGRAM,
        help="Time that an admitted request waited in the queue.",
        unit="seconds",
        labels=(labels.MODEL,),
        buckets=buckets.FIRST_TOKEN,
        readings=(one(RequestAdmitted, lambda e: e.queue_s),),
    ),
    Family(
        name="time_to_first_token_seconds",
        kind=MetricKind.HISTOGRAM,
        help="Time from submission to the first token, of requests that completed.",
        unit="seconds",
        labels=(labels.MODEL,),
        buckets=buckets.FIRST_TOKEN,
        readings=(one(InferenceStopped, readings.time_to_first_token),),
        exemplars=True,
        convention=conventions.SERVER_TIME_TO_FIRST_TOKEN,
    ),
    Family(
        name="time_per_output_token_seconds",
        kind=MetricKind.HISTOGRAM,
        help="Mean time per token after the first, without waits for the reader of the stream, "
        "of requests that completed.",
        unit="seconds",
        labels=(labels.MODEL,),
        buckets=buckets.PER_TOKEN,
        readings=(one(InferenceStopped, readings.time_per_output_token),),
        convention=conventions.SERVER_TIME_PER_OUTPUT_TOKEN,
    ),
    Family(
        name="inter_token_seconds",
        kind=MetricKind.HISTOGRAM,
        help="Time that the engine worked between two tokens, without waits for the reader.",
        unit="seconds",
        labels=(labels.MODEL,),
        buckets=buckets.INTER_TOKEN,
        readings=(one(TokenGenerated, readings.inter_token_seconds),),
    ),
    Family(
        name="consumer_wait_seconds",
        kind=MetricKind.HISTOGRAM,
        help="Time that the reader of a stream held it up between two tokens.",
        unit="seconds",
        labels=(labels.MODEL,),
        buckets=buckets.CONSUMER_WAIT,
        readings=(one(TokenGenerated, readings.consumer_wait_seconds),),
    ),
    Family(
        name="prefill_seconds",
        kind=MetricKind.HISTOGRAM,
        help="Time that the prefill of a prompt took.",
        unit="seconds",
        labels=(labels.MODEL,),
        buckets=buckets.FIRST_TOKEN,
        readings=(one(PrefillEnded, lambda e: e.duration_s),),
    ),
    Family(
        name="decode_seconds",
        kind=MetricKind.HISTOGRAM,
        help="Time that a request spent decoding, of requests with more than one token.",
        unit="seconds",
        labels=(labels.MODEL,),
        buckets=buckets.DURATION,
        readings=(one(InferenceStopped, readings.decode_seconds),),
    ),
    Family(
        name="request_phase_seconds_total",
        kind=MetricKind.COUNTER,
        help="Time of requests by phase; the phases add up to the time of the requests.",
        unit="seconds",
        labels=(labels.MODEL, labels.PHASE),
        readings=(rows(InferenceStopped, readings.ledger_rows),),
    ),
    # Tokens.
    Family(
        name="prompt_tokens_total",
        kind=MetricKind.COUNTER,
        help="Tokens of prompts whose prefill ended.",
        unit="tokens",
        labels=(labels.MODEL, labels.SOURCE),
        readings=(rows(PrefillEnded, readings.prompt_token_rows),),
    ),
    Family(
        name="generated_tokens_total",
        kind=MetricKind.COUNTER,
        help="Tokens generated, told one by one, so not by engines with detail=request.",
        unit="tokens",
        labels=(labels.MODEL,),
        readings=(count(TokenGenerated),),
    ),
    Family(
        name="request_tokens",
        kind=MetricKind.HISTOGRAM,
        help="Tokens of a request's prompt, and tokens that it generated, once it ran.",
        unit="tokens",
        labels=(labels.MODEL, labels.TOKEN_TYPE),
        buckets=buckets.TOKENS,
        readings=(rows(InferenceStopped, readings.request_token_rows),),
        convention=conventions.CLIENT_TOKEN_USAGE,
    ),
    *BATCH_FAMILIES,
    *EMBEDDING_FAMILIES,
    *GRAMMAR_FAMILIES,
    # KV cache.
    Family(
        name="kv_cache_used_tokens",
        kind=MetricKind.GAUGE,
        help="Tokens in the KV caches of all requests and sessions.",
        unit="tokens",
        labels=(labels.MODEL,),
        readings=(one(KVCacheUsage, lambda e: e.used_tokens),),
    ),
    Family(
        name="kv_cache_capacity_tokens",
        kind=MetricKind.GAUGE,
        help="Tokens that the KV caches have room for.",
        unit="tokens",
        labels=(labels.MODEL,),
        readings=(one(KVCacheUsage, lambda e: e.capacity_tokens),),
    ),
    Family(
        name="kv_cache_used_bytes",
        kind=MetricKind.GAUGE,
        help="Bytes of the KV caches that are in use.",
        unit="bytes",
        labels=(labels.MODEL,),
        readings=(one(KVCacheUsage, lambda e: e.used_bytes),),
    ),
    Family(
        name="kv_cache_lookups_total",
        kind=MetricKind.COUNTER,
        help="Prompts that were looked up in the caches.",
        annotation="{lookup}",
        labels=(labels.MODEL, labels.RESULT),
        readings=(rows(KVCacheLookup, readings.lookup_rows),),
    ),
    Family(
        name="prefix_cache_queried_tokens_total",
        kind=MetricKind.COUNTER,
        help="Prompt tokens that were looked for in a cache.",
        unit="tokens",
        labels=(labels.MODEL,),
        readings=(one(KVCacheLookup, lambda e: e.prompt_tokens),),
    ),
    Family(
        name="prefix_cache_hit_tokens_total",
        kind=MetricKind.COUNTER,
        help="Prompt tokens that were found in a cache and not computed again.",
        unit="tokens",
        labels=(labels.MODEL,),
        readings=(one(KVCacheLookup, lambda e: e.reused_tokens),),
    ),
    Family(
        name="kv_cache_evictions_total",
        kind=MetricKind.COUNTER,
        help="Idle caches dropped to make room.",
        annotation="{eviction}",
        labels=(labels.MODEL, labels.EVICTION_REASON),
        readings=(rows(KVCacheEvicted, lambda e: (((e.reason,), 1),)),),
    ),
    # Models and memory.
    Family(
        name="model_info",
        kind=MetricKind.INFO,
        help="What is loaded; always 1.",
        annotation="{model}",
        labels=(
            labels.MODEL,
            labels.ARCHITECTURE,
            labels.QUANTIZATION,
            labels.BACKEND,
            labels.PARAMETERS,
            labels.CONTEXT_LENGTH,
            labels.FINGERPRINT,
        ),
        readings=(rows(ModelLoadEnded, readings.info_rows),),
        summed=False,
    ),
    Family(
        name="model_load_seconds",
        kind=MetricKind.GAUGE,
        help="Time that the last successful load took, by phase; the phases add up to the whole.",
        unit="seconds",
        labels=(labels.MODEL, labels.LOAD_PHASE),
        readings=(rows(ModelLoadEnded, readings.load_phase_rows),),
        summed=False,
    ),
    Family(
        name="model_loads_total",
        kind=MetricKind.COUNTER,
        help="Loads that ended.",
        annotation="{load}",
        labels=(labels.MODEL, labels.LOAD_STATUS),
        readings=(rows(ModelLoadEnded, lambda e: (((e.status,), 1),)),),
    ),
    Family(
        name="kernel_compilations_total",
        kind=MetricKind.COUNTER,
        help="Kernels made ready for models, by whether they had to be compiled.",
        annotation="{kernel}",
        labels=(labels.MODEL, labels.KERNEL_SOURCE),
        readings=(rows(KernelsPrepared, readings.kernel_rows),),
    ),
    Family(
        name="kernel_preparation_seconds_total",
        kind=MetricKind.COUNTER,
        help="Time that it took to have the kernels of models ready.",
        unit="seconds",
        labels=(labels.MODEL,),
        readings=(one(KernelsPrepared, lambda e: e.duration_s),),
    ),
    *KERNEL_FAMILIES,
    *INSIGHT_FAMILIES,
    Family(
        name="tokenizer_issues_total",
        kind=MetricKind.COUNTER,
        help="What loaded tokenizers lacked, and the fallbacks they took.",
        annotation="{issue}",
        labels=(labels.MODEL, labels.TOKENIZER_REASON),
        readings=(rows(TokenizerDiagnosed, readings.issue_rows),),
    ),
    Family(
        name="memory_bytes",
        kind=MetricKind.GAUGE,
        help="Memory that a category holds now.",
        otel="memory.used",
        unit="bytes",
        labels=(labels.MODEL, labels.CATEGORY),
        readings=(rows(MemoryUsage, lambda e: (((e.category,), e.current_bytes),)),),
    ),
    Family(
        name="memory_high_water_bytes",
        kind=MetricKind.GAUGE,
        help="Most memory that a category has held.",
        unit="bytes",
        labels=(labels.MODEL, labels.CATEGORY),
        readings=(rows(MemoryHighWater, lambda e: (((e.category,), e.high_water_bytes),)),),
        gauging=Gauging.MAXIMUM,
    ),
    Family(
        name="memory_budget_events_total",
        kind=MetricKind.COUNTER,
        help="Times that the memory budget gave less than was asked for, or refused.",
        annotation="{event}",
        labels=(labels.MODEL, labels.BUDGET_REASON, labels.CATEGORY),
        readings=(rows(MemoryBudgetEvent, lambda e: (((e.reason, e.category), 1),)),),
    ),
    *RETRIEVAL_FAMILIES,
    *TELEMETRY_FAMILIES,
)
