"""What an engine does now, and has done since it was loaded."""

from __future__ import annotations

from dataclasses import dataclass

from smallmind_engine.runtime.kv_store import KVStore
from smallmind_engine.runtime.options import Detail
from smallmind_engine.runtime.scheduler import Scheduler
from smallmind_engine.runtime.telemetry_budget import TelemetryBudget
from smallmind_engine.runtime.work import Stage
from smallmind_engine.telemetry import EventBus


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStats:
    """A look at an engine, for operators. The numbers are of nearly the same moment.

    When no request is under way, ``submitted == ended``. When no session keeps a cache either,
    ``kv_blocks_rented - kv_blocks_returned == prefix_blocks_idle``.

    Attributes:
        queue_depth: requests that wait to be admitted.
        running: admitted requests.
        paused: those of them that wait for their readers.
        submitted: requests that came in.
        ended: requests that came in and ended, in whatever way.
        rejected: requests that were turned away.
        steps: steps of the model.
        prefill_tokens: tokens of prompts that were computed.
        decode_tokens: tokens that were computed one by one.
        kv_blocks_used: blocks of 64 tokens that are taken, shared ones counted once.
        kv_blocks_free: blocks that may still be taken; None without a limit.
        kv_blocks_rented: blocks ever taken.
        kv_blocks_returned: blocks ever given back.
        prefix_blocks: blocks that requests and sessions share.
        prefix_blocks_idle: those of them that none uses now.
        prefix_lookups: prompts that were looked up.
        prefix_hits: those of which any token could be reused.
        prefix_queried_tokens: tokens of all prompts.
        prefix_hit_tokens: those of them that were reused.
        evicted_blocks: blocks that were dropped to make room.
        telemetry_level: how much is told as events now: ``detail``, or less while the budget of
            telemetry is exceeded.
        telemetry_ratio: share of the last second or so that publishing took; 0 without a budget.
        telemetry_overhead_s: seconds that publishing has taken of the engine's threads.
        telemetry_shed: events that were not built because of the budget.
    """

    queue_depth: int
    running: int
    paused: int
    submitted: int
    ended: int
    rejected: int
    steps: int
    prefill_tokens: int
    decode_tokens: int
    kv_blocks_used: int
    kv_blocks_free: int | None
    kv_blocks_rented: int
    kv_blocks_returned: int
    prefix_blocks: int
    prefix_blocks_idle: int
    prefix_lookups: int
    prefix_hits: int
    prefix_queried_tokens: int
    prefix_hit_tokens: int
    evicted_blocks: int
    telemetry_level: Detail
    telemetry_ratio: float
    telemetry_overhead_s: float
    telemetry_shed: int


def stats_of(
    scheduler: Scheduler, store: KVStore, bus: EventBus, budget: TelemetryBudget
) -> EngineStats:
    """The numbers as they are now."""
    live, admission, steps = scheduler.live, scheduler.admission, scheduler.counts
    blocks, prefixes = store.blocks(), store.counts
    return EngineStats(
        queue_depth=admission.waiting,
        running=len(live),
        paused=sum(work.stage is Stage.PAUSED for work in live),
        submitted=admission.submitted,
        ended=admission.ended,
        rejected=admission.rejected,
        steps=steps.steps,
        prefill_tokens=steps.prefill_tokens,
        decode_tokens=steps.decode_tokens,
        kv_blocks_used=blocks.used,
        kv_blocks_free=blocks.free,
        kv_blocks_rented=blocks.rented,
        kv_blocks_returned=blocks.returned,
        prefix_blocks=blocks.shared,
        prefix_blocks_idle=blocks.idle,
        prefix_lookups=prefixes.lookups,
        prefix_hits=prefixes.hits,
        prefix_queried_tokens=prefixes.queried_tokens,
        prefix_hit_tokens=prefixes.hit_tokens,
        evicted_blocks=blocks.evicted,
        telemetry_level=budget.level,
        telemetry_ratio=budget.ratio,
        telemetry_overhead_s=bus.overhead_ns / 1e9,
        telemetry_shed=bus.shed(),
    )
