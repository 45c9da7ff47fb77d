"""Options of the engine and of a request, checked when they are made."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from smallmind_engine.cache import BLOCK_TOKENS, KVType
from smallmind_engine.control import CancellationToken
from smallmind_engine.grammar import RESPONSE_FORMATS, ResponseFormat
from smallmind_engine.kernels import WeightsMode, backend_names
from smallmind_engine.memory import MemoryBudgetMode
from smallmind_engine.sampling import SamplingOptions
from smallmind_engine.telemetry.errors import invalid_option
from smallmind_engine.tokenizers import TokenizerMode

if TYPE_CHECKING:
    from smallmind_engine.runtime.results import StreamChunk

MAX_LOGPROBS = 100
MAX_BATCH_SIZE = 32
MAX_PRIORITY = 10


class ContextOverflow(StrEnum):
    """What happens to a sequence that is longer than the context window."""

    ERROR = "error"  # refuse it
    TRUNCATE_MIDDLE = "truncate_middle"  # leave out its middle, and say so
    SLIDING = "sliding"  # leave out the older half after its beginning, also while decoding


class BackpressurePolicy(StrEnum):
    """What happens when the reader of a stream falls behind."""

    BLOCK = "block"  # generation waits for the reader, and others go on meanwhile
    CANCEL = "cancel"  # generation stops; what was produced stays readable
    DROP_REQUEST = "drop_request"  # generation stops; the reader gets a ``BackpressureError``


class Detail(StrEnum):
    """How much of a request is told as events; each level tells what the one before does too."""

    REQUEST = "request"  # its life, without its tokens
    TOKEN = "token"  # each token  # noqa: S105 - a word, no secret
    KERNEL = "kernel"  # each operation of each layer, with what it took and what it read


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """How an engine works.

    Attributes:
        backend: ``auto`` or the name of a backend.
        weights: where weights live; None for whatever fits.
        kv_cache_type: ``f32``, ``f16`` or ``int8``; None for the backend's own choice.
        threads: that compute at once (NumPy's own threads are set by its library's variables);
            None for all cores that the process may use.
        keep_packed_weights: keep weights in the kernels' form on disk, and map them next time.
        context_length: positions that may be used; None for all the model was trained for.
        tokenizer_mode: which tokenizer to build from the file.
        strict_tokenizer: refuse to load rather than fall back to a lesser tokenizer.
        max_memory_bytes: budget for everything that a model takes; None for what the container
            or the machine has free, less a tenth.
        max_tensor_bytes: largest size of a tensor in memory; a model with a larger one is refused.
            None for any size.
        memory_budget_mode: what happens when the budget does not suffice.
        max_concurrent_requests: requests that run at once; the others queue.
        max_queue_depth: requests that may wait; one more is turned away.
        max_batch_size: requests that share a step of the model, 1 to 32.
        prefill_budget: tokens of prompts in a step while other requests decode; None for as many
            as keep a step near 50 ms.
        prefix_cache: whether requests share the beginnings that they have in common.
        max_prefix_tokens: tokens of such beginnings that are kept although no request or session
            uses them; None for four context windows, or 256 MiB if that is less.
        max_kv_tokens: tokens in all KV caches together; None for no limit but the memory budget.
        capture_content: whether events may carry token ids, which reveal the text.
        detail: how much is told: ``request``, ``token`` or ``kernel``.
        quality_signals: whether exporters are told how sure the model was of each token.
        telemetry_budget: share of the time, such as 0.01, that publishing may take of the
            engine's threads before less detail is told for a while; None for no limit.
    """

    backend: str = "auto"
    weights: WeightsMode | None = None
    kv_cache_type: KVType | None = None
    threads: int | None = None
    keep_packed_weights: bool = False
    context_length: int | None = None
    tokenizer_mode: TokenizerMode = TokenizerMode.AUTO
    strict_tokenizer: bool = False
    max_memory_bytes: int | None = None
    max_tensor_bytes: int | None = None
    memory_budget_mode: MemoryBudgetMode = MemoryBudgetMode.NONE
    max_concurrent_requests: int = 16
    max_queue_depth: int = 64
    max_batch_size: int = 16
    prefill_budget: int | None = None
    prefix_cache: bool = True
    max_prefix_tokens: int | None = None
    max_kv_tokens: int | None = None
    capture_content: bool = False
    detail: Detail = Detail.TOKEN
    quality_signals: bool = False
    telemetry_budget: float | None = None

    def __post_init__(self) -> None:
        """Check the values; plain strings become the enums that they name."""
        if self.backend not in backend_names():
            raise invalid_option("backend", self.backend, f"one of {', '.join(backend_names())}")
        if self.weights is not None:
            _to_enum(self, "weights", WeightsMode)
        if self.kv_cache_type is not None:
            _to_enum(self, "kv_cache_type", KVType)
        _check_count(self, "threads", least=1, optional=True)
        _to_enum(self, "tokenizer_mode", TokenizerMode)
        _to_enum(self, "memory_budget_mode", MemoryBudgetMode)
        _to_enum(self, "detail", Detail)
        _check_count(self, "context_length", least=1, optional=True)
        _check_count(self, "max_memory_bytes", least=1, optional=True)
        _check_count(self, "max_tensor_bytes", least=1, optional=True)
        _check_count(self, "max_concurrent_requests", least=1)
        _check_count(self, "max_queue_depth", least=0)
        _check_count(self, "max_batch_size", least=1)
        if self.max_batch_size > MAX_BATCH_SIZE:
            raise invalid_option("max_batch_size", self.max_batch_size, f"1 to {MAX_BATCH_SIZE}")
        _check_count(self, "prefill_budget", least=1, optional=True)
        _check_count(self, "max_prefix_tokens", least=0, optional=True)
        _check_count(self, "max_kv_tokens", least=BLOCK_TOKENS, optional=True)
        share = self.telemetry_budget
        if share is not None and not 0.0 < share <= 1.0:
            raise invalid_option("telemetry_budget", share, "a share above 0, and 1 at most")


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationOptions:
    """What a request asks for.

    Attributes:
        max_tokens: tokens to produce at most.
        temperature: 0 is greedy; higher is more random.
        top_k: draw among so many best tokens; 0 for all.
        top_p: draw among the smallest set with this share of the probability.
        min_p: draw among tokens with at least this share of the best one's probability.
        typical_p: draw among the most typical tokens with this share of the probability.
        repetition_penalty: divides the scores of recent tokens; 1 is off.
        frequency_penalty: subtracted for each recent occurrence.
        presence_penalty: subtracted once for recent tokens.
        penalty_window: how many last tokens are recent.
        logit_bias: added to the scores of tokens, by id.
        seed: makes the draws repeatable; None for a fresh one, told in the result.
        stop: strings that end the completion; they are left out of the text.
        response_format: what the completion must look like, such as ``JsonSchema(...)`` of
            ``smallmind.structured``; None for any text.
        logprobs: how many best alternatives to report for each token; None for no report.
        ignore_eos: go on after the model's end-of-sequence token.
        parse_special: whether control tokens written in the prompt are taken as such.
        context_overflow: what happens when the context window is too short.
        priority: -10 to 10; higher goes first among those that wait, but a second of waiting counts
            as much as a step of priority.
        cancellation: stops the request from elsewhere.
        request_timeout: seconds from submission until the request is stopped.
        on_token: called with each chunk as it comes.
        max_buffered_tokens: let generation run ahead of the reader by so many chunks. None goes
            in step with a reader (each token is computed when the reader comes back for it), and
            is 64 under asyncio and with a policy other than ``block``.
        backpressure: what happens when the reader is further behind.
        traceparent: W3C trace context of the caller.
        tracestate: what belongs to it, as in the W3C header of that name.
        request_id: the caller's own id for the request.
    """

    max_tokens: int = 256
    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.0
    typical_p: float = 1.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    penalty_window: int = 64
    logit_bias: Mapping[int, float] | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    response_format: ResponseFormat | None = None
    logprobs: int | None = None
    ignore_eos: bool = False
    parse_special: bool = False
    context_overflow: ContextOverflow = ContextOverflow.ERROR
    priority: int = 0
    cancellation: CancellationToken | None = None
    request_timeout: float | None = None
    on_token: Callable[[StreamChunk], None] | None = None
    max_buffered_tokens: int | None = None
    backpressure: BackpressurePolicy = BackpressurePolicy.BLOCK
    traceparent: str | None = None
    tracestate: str | None = None
    request_id: str | None = None

    def __post_init__(self) -> None:
        """Check the values; a single stop string and plain strings for enums are welcome."""
        _check_count(self, "max_tokens", least=1)
        _check_count(self, "logprobs", least=0, optional=True)
        if self.logprobs is not None and self.logprobs > MAX_LOGPROBS:
            raise invalid_option("logprobs", self.logprobs, f"0 to {MAX_LOGPROBS}")
        _check_count(self, "max_buffered_tokens", least=1, optional=True)
        _to_enum(self, "context_overflow", ContextOverflow)
        _check_count(self, "priority", least=-MAX_PRIORITY)
        if self.priority > MAX_PRIORITY:
            raise invalid_option("priority", self.priority, f"-{MAX_PRIORITY} to {MAX_PRIORITY}")
        _to_enum(self, "backpressure", BackpressurePolicy)
        stops = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)
        if not all(isinstance(stop, str) and stop for stop in stops):
            raise invalid_option("stop", self.stop, "non-empty strings")
        object.__setattr__(self, "stop", stops)
        if self.response_format is not None:
            _check_format(self.response_format, ignore_eos=self.ignore_eos)
        timeout = self.request_timeout
        if timeout is not None and not (math.isfinite(timeout) and timeout > 0):
            raise invalid_option("request_timeout", timeout, "a positive number of seconds")
        self.sampling  # noqa: B018 - its own checks belong to the moment of creation

    @property
    def sampling(self) -> SamplingOptions:
        """The part that the sampler needs."""
        return SamplingOptions(
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            typical_p=self.typical_p,
            repetition_penalty=self.repetition_penalty,
            frequency_penalty=self.frequency_penalty,
            presence_penalty=self.presence_penalty,
            penalty_window=self.penalty_window,
            logit_bias=self.logit_bias,
            seed=self.seed,
        )


def _check_format(wanted: object, *, ignore_eos: bool) -> None:
    if not isinstance(wanted, RESPONSE_FORMATS):
        names = ", ".join(known.__name__ for known in RESPONSE_FORMATS)
        raise invalid_option("response_format", wanted, f"None or one of {names}")
    if ignore_eos:
        raise invalid_option(
            "ignore_eos", ignore_eos, "False with a response_format, which has an end"
        )


def _check_count(options: object, name: str, *, least: int, optional: bool = False) -> None:
    value = getattr(options, name)
    if value is None and optional:
        return
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise invalid_option(name, value, f"an integer of at least {least}")


def _to_enum(options: object, name: str, kind: type[StrEnum]) -> None:
    value = getattr(options, name)
    try:
        object.__setattr__(options, name, kind(value))
    except ValueError:
        raise invalid_option(name, value, f"one of {', '.join(kind)}") from None
