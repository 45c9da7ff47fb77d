"""Choosing how a model runs within a budget: as asked, a rung or more lower, or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from smallmind_engine.memory.categories import MemoryBudgetMode, MemoryCategory
from smallmind_engine.memory.limits import MemoryLimit
from smallmind_engine.memory.plan import (
    LadderStep,
    MemoryDemand,
    MemoryPlan,
    MemoryRung,
    shares_of,
)
from smallmind_engine.telemetry.errors import MemoryBudgetError
from smallmind_engine.telemetry.reasons import ReasonCode

GRANULE_TOKENS: Final = 64
"""KV caches are given in blocks of so many positions."""

COMFORTABLE_TOKENS: Final = 512
"""Best effort makes the KV cache no smaller than this (or than the context, when that is shorter)
as long as a lower rung leaves more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryRequest:
    """What is to be planned.

    Attributes:
        ways: how the model could run, the best first: as asked for, then with smaller KV caches,
            then with less memory for weights. Only what the user left open may differ.
        context_length: positions that may be used.
        context_asked: whether the user asked for just that; else it is what the model was made
            for, of which a part will do.
        prefix_asked: whether the user asked for a prefix store of just that size; else it gets
            what a budget leaves, since it gives way to requests anyway.
        mode: of the budget.
        limit: of the memory; None for none.
        machine_bytes: what the system has to give; counts for the choice of how weights are held
            when the mode is ``NONE``. None for any amount.
        taken_bytes: of the limit, by what was reserved before.
        max_tensor_bytes: largest size of a tensor; None for any.
    """

    ways: tuple[MemoryDemand, ...]
    context_length: int
    context_asked: bool
    prefix_asked: bool = False
    mode: MemoryBudgetMode
    limit: MemoryLimit | None
    machine_bytes: int | None = None
    taken_bytes: int = 0
    max_tensor_bytes: int | None = None


def choose_plan(request: MemoryRequest) -> MemoryPlan:
    """The best plan that keeps to the budget.

    ``NONE`` takes what was asked for; only weights that nobody asked to be resident are held per
    layer when they alone do not fit. ``STRICT`` does so too, and refuses everything else that does
    not fit. ``BEST_EFFORT`` goes down the ladder of ``MemoryRung``.

    Raises:
        MemoryBudgetError: nothing fits, or a tensor is larger than allowed. The error has the
            breakdown by category and the settings that would fit.
    """
    if request.mode is not MemoryBudgetMode.NONE and not request.prefix_asked:
        bare = tuple(replace(way, prefix_store_bytes=0) for way in request.ways)
        return _with_prefix_store(
            request, choose_plan(replace(request, ways=bare, prefix_asked=True))
        )
    ways = [way for way in request.ways if _tensor_fits(way, request)]
    if not ways:
        raise _tensor_too_large(request)
    if request.mode is MemoryBudgetMode.BEST_EFFORT:
        return _best_effort(request, ways)
    base = ways[0]
    if base.fixed_bytes - base.prefix_store_bytes > _room_for_weights(request):
        # Where weights live was left open when there is such a way.
        base = next((way for way in ways if way.weights != base.weights), base)
    if request.mode is MemoryBudgetMode.NONE:
        return _plan(request, base, request.context_length)
    tokens = _tokens_that_fit(request, base)
    needed = request.context_length if request.context_asked else GRANULE_TOKENS
    if tokens < min(needed, request.context_length):
        raise _too_large(request, base)
    return _plan(request, base, tokens)


def _with_prefix_store(request: MemoryRequest, plan: MemoryPlan) -> MemoryPlan:
    """A plan whose prefix store gets what is left, in whole blocks, up to what was planned."""
    way = plan.demand
    asked = next(each for each in request.ways if each.weights == way.weights)
    if not asked.prefix_store_bytes:
        return plan
    tokens = asked.prefix_store_bytes // asked.kv_bytes_per_token
    room = _room(request, plan.total_bytes)
    if room < tokens * way.kv_bytes_per_token:
        block = way.kv_bytes_per_token * GRANULE_TOKENS
        tokens = max(0, int(room)) // block * GRANULE_TOKENS
    kept = replace(way, prefix_store_bytes=tokens * way.kv_bytes_per_token)
    return replace(plan, demand=kept)


def _best_effort(request: MemoryRequest, ways: Sequence[MemoryDemand]) -> MemoryPlan:
    """The first rung with a comfortable KV cache; else the one that leaves most."""
    comfortable = min(COMFORTABLE_TOKENS, request.context_length)
    best: tuple[int, MemoryDemand] | None = None
    for way in _rungs(ways):
        tokens = _tokens_that_fit(request, way)
        if tokens >= comfortable:
            return _plan(request, way, tokens)
        if tokens > 0 and (best is None or tokens > best[0]):
            best = tokens, way
    if best is None:
        raise _too_large(request, min(_rungs(ways), key=lambda way: way.fixed_bytes))
    return _plan(request, best[1], best[0])


def _rungs(ways: Sequence[MemoryDemand]) -> Iterator[MemoryDemand]:
    yield from ways
    for way in ways:
        if way.prefix_store_bytes:
            yield replace(way, prefix_store_bytes=0)


def _plan(request: MemoryRequest, way: MemoryDemand, tokens: int) -> MemoryPlan:
    tokens = min(tokens, request.context_length)
    return MemoryPlan(
        demand=way,
        context_length=request.context_length,
        kv_tokens=tokens,
        mode=request.mode,
        limit=request.limit,
        steps=tuple(_steps(request, way, tokens)),
    )


def _steps(request: MemoryRequest, way: MemoryDemand, tokens: int) -> Iterator[LadderStep]:
    """What a way gives up compared with the one that was asked for."""
    asked = request.ways[0]
    wanted = request.context_length
    if tokens < wanted and request.mode is MemoryBudgetMode.BEST_EFFORT:
        yield LadderStep(
            rung=MemoryRung.SMALLER_KV_CACHE,
            category=MemoryCategory.KV_CACHE,
            before_bytes=wanted * way.kv_bytes_per_token,
            after_bytes=tokens * way.kv_bytes_per_token,
            message=f"there is room for {tokens} of {wanted} tokens in KV caches",
        )
    if way.kv_cache_type != asked.kv_cache_type and way.backend == asked.backend:
        yield LadderStep(
            rung=MemoryRung.QUANTISED_KV_CACHE,
            category=MemoryCategory.KV_CACHE,
            before_bytes=wanted * asked.kv_bytes_per_token,
            after_bytes=wanted * way.kv_bytes_per_token,
            message=f"KV caches store {way.kv_cache_type} instead of {asked.kv_cache_type}",
        )
    if way.weights != asked.weights:
        yield LadderStep(
            rung=MemoryRung.WEIGHTS_PER_LAYER,
            category=MemoryCategory.WEIGHTS,
            before_bytes=asked.weight_bytes,
            after_bytes=way.weight_bytes,
            message="weights are dequantised layer by layer in every step"
            + (f", by the backend {way.backend}" if way.backend != asked.backend else ""),
        )
    if way.prefix_store_bytes < asked.prefix_store_bytes:
        yield LadderStep(
            rung=MemoryRung.NO_PREFIX_STORE,
            category=MemoryCategory.PREFIX_STORE,
            before_bytes=asked.prefix_store_bytes,
            after_bytes=way.prefix_store_bytes,
            message="no KV blocks are kept for prompts that begin alike",
        )


def _room_for_weights(request: MemoryRequest) -> float:
    """Without a mode, only what the machine really has makes weights give way."""
    if request.mode is not MemoryBudgetMode.NONE:
        return _room(request)
    return float("inf") if request.machine_bytes is None else request.machine_bytes


def _room(request: MemoryRequest, besides: int = 0) -> float:
    """Bytes that are left for what is planned, less ``besides``; infinite without a limit."""
    if request.limit is None:
        return float("inf")
    return request.limit.budget_bytes - request.taken_bytes - besides


def _tokens_that_fit(request: MemoryRequest, way: MemoryDemand) -> int:
    """Positions of KV cache that are left room for: whole blocks, or all that are wanted."""
    room = _room(request, way.fixed_bytes)
    if room >= request.context_length * way.kv_bytes_per_token:
        return request.context_length
    if not way.kv_bytes_per_token:  # an encoder: it is the rest that does not fit
        return 0
    return max(0, int(room) // (way.kv_bytes_per_token * GRANULE_TOKENS) * GRANULE_TOKENS)


def _tensor_fits(way: MemoryDemand, request: MemoryRequest) -> bool:
    most = request.max_tensor_bytes
    return most is None or way.largest_tensor_bytes <= most


def _tensor_too_large(request: MemoryRequest) -> MemoryBudgetError:
    way = min(request.ways, key=lambda each: each.largest_tensor_bytes)
    return MemoryBudgetError(
        ReasonCode.MEMORY_BUDGET_EXCEEDED,
        f"the tensor {way.largest_tensor!r} takes {way.largest_tensor_bytes} bytes on the backend"
        f" {way.backend!r}; max_tensor_bytes is {request.max_tensor_bytes}",
        hint=f"max_tensor_bytes={way.largest_tensor_bytes} would fit",
        category=MemoryCategory.WEIGHTS.value,
        tensor=way.largest_tensor,
        wanted_bytes=way.largest_tensor_bytes,
        limit_bytes=request.max_tensor_bytes,
        suggestions={"max_tensor_bytes": way.largest_tensor_bytes},
    )


def _too_large(request: MemoryRequest, way: MemoryDemand) -> MemoryBudgetError:
    """The error of a plan that does not fit: what it wanted, what there is, and what would do."""
    tokens = request.context_length if request.context_asked else GRANULE_TOKENS
    tokens = min(tokens, request.context_length)
    wanted = way.fixed_bytes + tokens * way.kv_bytes_per_token
    shares = shares_of(way, tokens)
    free = int(_room(request))
    suggestions = _suggestions(request, way, tokens, wanted)
    said = ", or ".join(f"{name}={value!r}" for name, value in suggestions.items())
    listed = ", ".join(f"{category.value} {size}" for category, size in shares if size)
    limit = request.limit
    source = "" if limit is None else f" ({limit.source.value} {limit.place}".rstrip() + ")"
    return MemoryBudgetError(
        ReasonCode.MEMORY_BUDGET_EXCEEDED,
        f"the model takes {wanted} bytes with {tokens} tokens of KV cache ({listed}); the budget"
        f"{source} has {free} bytes",
        hint=f"would fit: {said}",
        category=max(shares, key=lambda share: share[1])[0].value,
        wanted_bytes=wanted,
        free_bytes=free,
        limit_bytes=0 if limit is None else limit.budget_bytes,
        taken_bytes=request.taken_bytes,
        wanted_by_category={category.value: size for category, size in shares},
        suggestions=suggestions,
    )


def _suggestions(
    request: MemoryRequest, way: MemoryDemand, tokens: int, wanted: int
) -> dict[str, int | str]:
    """Settings that would fit, each on its own."""
    found: dict[str, int | str] = {}
    fitting = _tokens_that_fit(request, way)
    if 0 < fitting < tokens:
        found["context_length"] = fitting
    for other in request.ways:
        if _tokens_that_fit(request, other) < tokens or not _tensor_fits(other, request):
            continue
        if other.weights != way.weights:
            found.setdefault("weights", other.weights)
        elif other.kv_cache_type != way.kv_cache_type:
            found.setdefault("kv_cache_type", other.kv_cache_type)
    found["max_memory_bytes"] = wanted + request.taken_bytes
    return found
