"""What the KV store tells the bus. Each function tests the mask before it builds an event."""

from __future__ import annotations

from smallmind_engine.telemetry import (
    Degraded,
    DegradeReason,
    Emitter,
    EventKind,
    KVCacheEvicted,
    KVCacheLookup,
    KVCacheUsage,
)


def tell_lookup(emitter: Emitter, model: str, prompt_tokens: int, reused: int) -> None:
    """What the caches were worth to a prompt."""
    if emitter.wants & EventKind.KV_CACHE_LOOKUP:
        emitter.publish(
            KVCacheLookup(
                *emitter.header(),
                model=model,
                hit=reused > 0,
                prompt_tokens=prompt_tokens,
                reused_tokens=reused,
            )
        )


def tell_eviction(emitter: Emitter, model: str, tokens: int, freed_bytes: int) -> None:
    """Something that nobody used was dropped."""
    if emitter.wants & EventKind.KV_CACHE_EVICTED:
        emitter.publish(
            KVCacheEvicted(
                *emitter.header(),
                model=model,
                tokens=tokens,
                freed_bytes=freed_bytes,
                reason=DegradeReason.KV_CACHE_EVICTION,
            )
        )


def tell_lost_session(emitter: Emitter, tokens: int) -> None:
    """An idle session will have to compute its tokens again."""
    if emitter.wants & EventKind.DEGRADED:
        emitter.publish(
            Degraded(
                *emitter.header(),
                component="kv_cache",
                reason=DegradeReason.KV_CACHE_EVICTION,
                message=f"an idle session's cache of {tokens} tokens was dropped",
            )
        )


def tell_usage(
    emitter: Emitter, model: str, used: int, capacity: int, bytes_per_token: int
) -> None:
    """How full the caches are."""
    if emitter.wants & EventKind.KV_CACHE_USAGE:
        emitter.publish(
            KVCacheUsage(
                *emitter.header(),
                model=model,
                used_tokens=used,
                capacity_tokens=capacity,
                used_bytes=used * bytes_per_token,
            )
        )
