"""Realistic streams of events, as the engine publishes them.

Each builder takes a ``header``: what gives the first three fields of an event. ``headers()``
counts by itself, so that a stream is the same in every run; ``Emitter.header`` is that of a bus.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from smallmind_engine.telemetry import (
    SNAPSHOT_SCHEMA,
    BackpressureApplied,
    BatchStepped,
    Correlation,
    Degraded,
    DegradeReason,
    EmbeddingEnded,
    Event,
    EventBus,
    FirstToken,
    GrammarApplied,
    InferenceStarted,
    InferenceStopped,
    KernelExecuted,
    KernelsPrepared,
    KVCacheEvicted,
    KVCacheLookup,
    KVCacheUsage,
    LogLevel,
    MachineMeasured,
    MemoryBudgetEvent,
    MemoryHighWater,
    MemoryUsage,
    ModelLoadEnded,
    ModelLoadProgress,
    ModelLoadStarted,
    Phase,
    PrefillEnded,
    ReasonCode,
    RequestAdmitted,
    RequestQueued,
    RequestRecorded,
    RequestRejected,
    RequestStatus,
    RetrievalEnded,
    RetrievalStarted,
    RuntimeLogEvent,
    RuntimeStalled,
    Snapshot,
    StallCause,
    StopReason,
    TokenGenerated,
    TokenizerDiagnosed,
    TokenQuality,
)

MODEL = "tiny"
BACKEND = "numpy"
SAMPLING = (
    ("temperature", 0.5),
    ("top_k", 40),
    ("top_p", 0.875),
    ("frequency_penalty", 0.25),
    ("presence_penalty", 0.0),
)
SEED = 7
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN_ID = "00f067aa0ba902b7"

Header = Callable[[], tuple[int, int, Correlation]]
Builder = Callable[..., Iterator[Event]]


def correlation(request_id: str = "req-1", **changes: object) -> Correlation:
    fields: dict[str, object] = {
        "request_id": request_id,
        "session_id": None,
        "trace_id": TRACE_ID,
        "span_id": SPAN_ID,
        "trace_flags": 1,
        "has_parent": True,
    }
    return Correlation(**{**fields, **changes})  # type: ignore[arg-type]


def headers(ids: Correlation | str = "req-1", *, first: int = 1) -> Header:
    """Counts sequence numbers from ``first``, a millisecond apart."""
    known = correlation(ids) if isinstance(ids, str) else ids
    last = first - 1

    def header() -> tuple[int, int, Correlation]:
        nonlocal last
        last += 1
        return last, last * 1_000_000, known

    return header


def publish(
    bus: EventBus, build: Builder, ids: Correlation | None = None, **options: object
) -> int:
    """Publish a built stream as one request or operation; answers the number of events."""
    emitter = bus.emitter(ids)
    count = 0
    for event in build(emitter.header, **options):
        if emitter.wants & event.kind:
            emitter.publish(event)
            count += 1
    return count


def model_load(
    header: Header,
    *,
    model: str = MODEL,
    status: RequestStatus = RequestStatus.COMPLETED,
    issues: tuple[DegradeReason, ...] = (),
) -> Iterator[Event]:
    yield ModelLoadStarted(*header(), model=model, file_bytes=1_000_000)
    yield ModelLoadProgress(*header(), model=model, phase="read", done=500_000, total=1_000_000)
    if status is not RequestStatus.COMPLETED:
        yield ModelLoadEnded(
            *header(), model=model, status=status, duration_s=0.25, reason=ReasonCode.GGUF_TRUNCATED
        )
        return
    yield TokenizerDiagnosed(
        *header(),
        model=model,
        tokenizer_type="gpt2",
        tokenizer_kind="bpe",
        vocab_size=49152,
        merge_count=48900,
        issues=issues,
    )
    yield KernelsPrepared(
        *header(),
        model=model,
        backend=BACKEND,
        isa="avx2",
        compiled=2,
        cached=3,
        duration_s=0.0625,
    )
    yield MemoryHighWater(*header(), model=model, category="weights", high_water_bytes=750_000)
    yield MemoryUsage(
        *header(),
        model=model,
        category="weights",
        current_bytes=700_000,
        high_water_bytes=750_000,
        limit_bytes=1_000_000,
    )
    yield ModelLoadEnded(
        *header(),
        model=model,
        status=status,
        duration_s=0.75,
        architecture="llama",
        quantization="Q4_1",
        backend=BACKEND,
        parameters=135_000_000,
        weight_bytes=750_000,
        context_length=2048,
        fingerprint="sha256:0123456789ab",
        phases=(("read", 0.125), ("weights", 0.5)),
    )


def request(
    header: Header,
    *,
    model: str = MODEL,
    operation: str = "text_completion",
    streaming: bool = True,
    reason: StopReason = StopReason.MAX_TOKENS,
    prompt_tokens: int = 12,
    cached_tokens: int = 4,
    tokens: int = 4,
    token_s: float = 0.03125,
    wait_s: float = 0.0078125,
) -> Iterator[Event]:
    """A request that is admitted and generates ``tokens`` tokens before it stops for ``reason``.

    All times are sums of powers of two, so that floating point adds them up exactly.
    """
    queue_s, prefill_s, rest_s = 0.0625, 0.25, 0.015625
    waited = wait_s if streaming else 0.0
    after_first = max(0, tokens - 1)
    first_token_s = queue_s + prefill_s + rest_s if tokens else None
    ledger = (
        (Phase.QUEUE.value, queue_s),
        (Phase.PREFILL.value, prefill_s),
        (Phase.DECODE.value, after_first * token_s),
        (Phase.CONSUMER.value, after_first * waited),
        (Phase.UNATTRIBUTED.value, rest_s),
    )
    yield RequestQueued(*header(), model=model, queue_depth=1)
    yield RequestAdmitted(*header(), model=model, queue_s=queue_s, queue_depth=0, in_flight=1)
    yield KVCacheLookup(
        *header(),
        model=model,
        hit=cached_tokens > 0,
        prompt_tokens=prompt_tokens,
        reused_tokens=cached_tokens,
    )
    yield InferenceStarted(
        *header(),
        model=model,
        backend=BACKEND,
        operation=operation,
        streaming=streaming,
        prompt_tokens=prompt_tokens,
        max_tokens=tokens,
        sampling=SAMPLING,
        seed=SEED,
    )
    yield PrefillEnded(
        *header(),
        model=model,
        computed_tokens=prompt_tokens - cached_tokens,
        cached_tokens=cached_tokens,
        duration_s=prefill_s,
    )
    if first_token_s is not None:
        yield FirstToken(*header(), model=model, time_to_first_token_s=first_token_s)
    for index in range(tokens):
        yield TokenGenerated(
            *header(),
            model=model,
            index=index,
            engine_s=token_s if index else prefill_s,
            consumer_s=waited if index else 0.0,
        )
    yield KVCacheUsage(
        *header(),
        model=model,
        used_tokens=prompt_tokens + tokens,
        capacity_tokens=2048,
        used_bytes=(prompt_tokens + tokens) * 1024,
    )
    yield InferenceStopped(
        *header(),
        model=model,
        backend=BACKEND,
        operation=operation,
        streaming=streaming,
        status=STATUS_OF.get(reason, RequestStatus.COMPLETED),
        reason=reason,
        error_type="InferenceError" if reason is StopReason.ERROR else "",
        prompt_tokens=prompt_tokens,
        cached_tokens=cached_tokens,
        completion_tokens=tokens,
        duration_s=sum(seconds for _, seconds in ledger),
        time_to_first_token_s=first_token_s,
        ledger=ledger,
        kv_tokens=prompt_tokens + tokens,
        kv_bytes=(prompt_tokens + tokens) * 1024,
    )


STATUS_OF = {
    StopReason.CANCELLED_BY_CALLER: RequestStatus.CANCELLED,
    StopReason.CANCELLED_BY_TIMEOUT: RequestStatus.CANCELLED,
    StopReason.BACKPRESSURE_BUFFER_FULL: RequestStatus.CANCELLED,
    StopReason.BACKPRESSURE_QUEUE_FULL: RequestStatus.REJECTED,
    StopReason.MEMORY_BUDGET_EXCEEDED: RequestStatus.REJECTED,
    StopReason.ERROR: RequestStatus.FAILED,
}


def rejected_request(header: Header, *, model: str = MODEL) -> Iterator[Event]:
    """A request that found the queue full."""
    yield RequestQueued(*header(), model=model, queue_depth=5)
    yield RequestRejected(
        *header(),
        model=model,
        reason=ReasonCode.BACKPRESSURE_QUEUE_FULL,
        queue_depth=4,
        limit=4,
    )
    yield BackpressureApplied(
        *header(),
        model=model,
        reason=ReasonCode.BACKPRESSURE_QUEUE_FULL,
        policy="reject",
        depth=4,
        limit=4,
    )
    yield _ended_in_queue(
        header, model, StopReason.BACKPRESSURE_QUEUE_FULL, error_type="BackpressureError"
    )


def cancelled_in_queue(header: Header, *, model: str = MODEL) -> Iterator[Event]:
    """A request whose caller gave up while it waited."""
    yield RequestQueued(*header(), model=model, queue_depth=1)
    yield _ended_in_queue(header, model, StopReason.CANCELLED_BY_CALLER)


def _ended_in_queue(
    header: Header, model: str, reason: StopReason, *, error_type: str = ""
) -> InferenceStopped:
    return InferenceStopped(
        *header(),
        model=model,
        backend=BACKEND,
        operation="chat",
        streaming=False,
        status=STATUS_OF[reason],
        reason=reason,
        error_type=error_type,
        prompt_tokens=12,
        cached_tokens=0,
        completion_tokens=0,
        duration_s=0.125,
        time_to_first_token_s=None,
        ledger=((Phase.QUEUE.value, 0.125),),
    )


def troubles(header: Header, *, model: str = MODEL) -> Iterator[Event]:
    """What happens outside of a request's normal life."""
    yield KVCacheEvicted(
        *header(),
        model=model,
        tokens=128,
        freed_bytes=131_072,
        reason=DegradeReason.KV_CACHE_EVICTION,
    )
    yield MemoryBudgetEvent(
        *header(),
        model=model,
        reason=ReasonCode.MEMORY_BUDGET_SOFT_LIMIT,
        category="kv_cache",
        wanted_bytes=2_000_000,
        granted_bytes=1_000_000,
        limit_bytes=1_500_000,
    )
    yield Degraded(
        *header(),
        component="runtime",
        reason=DegradeReason.CONTEXT_TRUNCATION,
        message="10 of 100 prompt tokens were left out of the middle",
    )
    yield RuntimeLogEvent(
        *header(), level=LogLevel.WARN, component="runtime", message="something to look at"
    )


def operations(header: Header, *, model: str = MODEL) -> Iterator[Event]:
    """What an engine with ``detail="kernel"`` tells besides: the machine, and two steps."""
    yield MachineMeasured(
        *header(),
        backend=BACKEND,
        threads=2,
        read_bytes_per_second=16e9,
        flops_per_second=128e9,
        byte_ops_per_second=512e9,
    )
    for _ in range(2):
        for op, layer, quantization in (("qkv", 0, "Q4_K+Q6_K"), ("output", -1, "F16")):
            yield KernelExecuted(
                *header(),
                model=model,
                backend=BACKEND,
                op=op,
                layer=layer,
                quantization=quantization,
                tokens=1,
                duration_s=0.0009765625,
                read_bytes=4_000_000,
                flops=16_000_000,
            )


def embedding(
    header: Header, *, model: str = MODEL, status: RequestStatus = RequestStatus.COMPLETED
) -> Iterator[Event]:
    """Three texts become vectors, or do not."""
    done = status is RequestStatus.COMPLETED
    yield EmbeddingEnded(
        *header(),
        model=model,
        backend=BACKEND,
        status=status,
        reason=ReasonCode.COMPLETED if done else ReasonCode.CANCELLED_BY_TIMEOUT,
        error_type="" if done else "OperationCancelledError",
        pooling="mean",
        texts=3,
        tokens=60,
        truncated=1,
        dimension=384,
        queue_s=0.0625,
        duration_s=0.25,
    )


def structured(header: Header, *, model: str = MODEL) -> Iterator[Event]:
    """Two answers that were held to a schema: one whole, one that was cut short."""
    for complete in (True, False):
        yield GrammarApplied(
            *header(),
            model=model,
            format="json_schema",
            complete=complete,
            cached=not complete,
            compile_s=0.0078125,
            masks=20,
            mask_s=0.0009765625,
            allowed_tokens=4_000,
            vocab_size=49_152,
        )


def recordings(header: Header, *, model: str = MODEL) -> Iterator[Event]:
    """What goes into a log only: a request's record, and what was counted so far."""
    yield RequestRecorded(
        *header(),
        model=model,
        fingerprint="sha256:0123456789ab",
        backend=BACKEND,
        runtime=(("smallmind", "0.1.0"), ("numpy", "2.4.0")),
        operation="text_completion",
        seed=7,
        max_tokens=4,
        ignore_eos=True,
        options=(("temperature", 0.0), ("top_k", 40)),
        logit_bias=((3, float("-inf")),),
        stop=("end",),
        stop_count=1,
        prompt_tokens=3,
        cached_tokens=0,
        prompt_sha256="ab" * 32,
        prompt_ids=(1, 2, 3),
    )
    yield Snapshot(
        *header(),
        schema=SNAPSHOT_SCHEMA,
        counted=42,
        series=(("generated_tokens_total", (model,), (17,)),),
    )


def retrieval(
    header: Header, *, status: RequestStatus = RequestStatus.COMPLETED, returned: int = 3
) -> Iterator[Event]:
    """A search for the sources of an answer."""
    yield RetrievalStarted(*header(), data_source="docs", mode="hybrid", top_k=5)
    yield RetrievalEnded(
        *header(),
        data_source="docs",
        mode="hybrid",
        top_k=5,
        status=status,
        duration_s=0.03125,
        embedder="hashing-v1:512",
        reason=None if returned else ReasonCode.RAG_EVIDENCE_INSUFFICIENT,
        candidates=20,
        returned=returned,
        returned_bytes=returned * 1024,
        best_similarity=0.5,
        phases=(("embed", 0.015625), ("lexical", 0.0078125)),
    )


def batch_steps(header: Header, *, model: str = MODEL) -> Iterator[Event]:
    """Two steps of the model: a prompt computed beside a decode, and two decodes."""
    for sequences, prefill_tokens, decode_tokens in ((2, 8, 1), (2, 0, 2)):
        yield BatchStepped(
            *header(),
            model=model,
            sequences=sequences,
            prefill_tokens=prefill_tokens,
            decode_tokens=decode_tokens,
            duration_s=0.015625,
            queue_depth=0,
            running=2,
        )


def insights(header: Header, *, model: str = MODEL) -> Iterator[Event]:
    """Two late tokens, and how sure the model was of two."""
    for cause, gc_s in (
        (StallCause.GC, (0.0, 0.0, 0.1875)),
        (StallCause.PAGE_FAULTS, (0.0, 0.0, 0.0)),
    ):
        yield RuntimeStalled(
            *header(),
            model=model,
            index=37,
            duration_s=0.21875,
            typical_s=0.015625,
            cause=cause,
            gc_s=gc_s,
            minor_faults=12,
            major_faults=3,
            involuntary_switches=1,
        )
    for index, rank in enumerate((1, 3)):
        yield TokenQuality(
            *header(),
            model=model,
            index=index,
            entropy=1.5,
            logprob=-0.75,
            rank=rank,
            margin=0.25,
            removed_mass=0.0625,
            repetition=0.0,
        )


def every_kind(header: Header) -> Iterator[Event]:
    """At least one event of each kind, as of one process from load to end."""
    yield from model_load(header, issues=(DegradeReason.TOKENIZER_MERGES_MISSING,))
    yield from request(header)
    yield from rejected_request(header)
    yield from troubles(header)
    yield from operations(header)
    yield from recordings(header)
    yield from retrieval(header)
    yield from embedding(header)
    yield from embedding(header, status=RequestStatus.CANCELLED)
    yield from structured(header)
    yield from batch_steps(header)
    yield from insights(header)
