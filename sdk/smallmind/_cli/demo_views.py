"""What the demo shows of what was observed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol

from smallmind._cli.blocks import Bar, Column, Grid, facts
from smallmind._cli.formatting import bytes_text, count_text, seconds_text, share_text
from smallmind._engine import Engine
from smallmind._registry import cached_path, entries
from smallmind_engine.memory import MemoryCategory, peak_rss_bytes, rss_bytes
from smallmind_engine.telemetry import Event, EventKind

_SAMPLES: Final = (
    "smallmind_requests_total",
    "smallmind_generated_tokens_total",
    "smallmind_time_to_first_token_seconds_sum",
    'phase="prefill"',
    'phase="decode"',
    "smallmind_kv_cache_used_tokens",
    "smallmind_memory_high_water_bytes",
)
"""Beginnings or labels of the exposition's lines that tell the most."""


class EventRecord(Protocol):
    """An exporter that keeps the events."""

    @property
    def events(self) -> tuple[Event, ...]:
        """Oldest first."""
        ...


def model_grid(engine: Engine) -> Grid:
    """What was loaded."""
    model = engine.model
    weights = model.runner.weights_mode.value.replace("_", " ")
    checksum = tuple(
        ("SHA-256 ok", entry.sha256) for entry in entries() if cached_path(entry) == model.path
    )
    return facts(
        "",
        (
            ("model", f"{model.name}, {model.spec.architecture}, {model.quantization}"),
            ("parameters", count_text(model.parameters)),
            ("backend", f"{engine.backend}, weights {weights}"),
            ("file", str(model.path)),
            *checksum,
        ),
    )


def memory_grid(engine: Engine) -> Grid:
    """KV cache and memory."""
    used, capacity = engine.kv_tokens
    share = used / capacity if capacity else 0.0
    high = {usage.category: usage.high_water_bytes for usage in engine.memory}
    return facts(
        "Memory",
        (
            ("KV cache", f"{used} of {capacity} tokens ({share_text(share)})"),
            ("weights", bytes_text(engine.model.runner.weight_bytes)),
            ("scratch", bytes_text(engine.model.runner.scratch_bytes)),
        ),
        (
            ("budgeted for weights", f"at most {bytes_text(high[MemoryCategory.WEIGHTS])}"),
            ("budgeted for KV cache", f"at most {bytes_text(high[MemoryCategory.KV_CACHE])}"),
            ("process (RSS)", bytes_text(rss_bytes())),
            ("process (peak)", bytes_text(peak_rss_bytes())),
        ),
    )


def event_grid(record: EventRecord) -> Grid:
    """How many events of each kind came, and when the first of them did."""
    events = record.events
    counts: dict[EventKind, int] = {}
    first: dict[EventKind, int] = {}
    for event in events:
        counts[event.kind] = counts.get(event.kind, 0) + 1
        first.setdefault(event.kind, event.time_ns)
    begin = events[0].time_ns if events else 0
    most = max(counts.values(), default=1)
    rows = tuple(
        (
            kind.name.lower().replace("_", " "),
            f"{counts[kind]}",
            f"+{seconds_text((first[kind] - begin) / 1e9)}",
            Bar(counts[kind] / most),
        )
        for kind in counts
    )
    return Grid(
        title=f"Events ({len(events)})",
        columns=(
            Column("kind"),
            Column("count", right=True),
            Column("first at", right=True),
            Column(""),
        ),
        sections=(rows,),
    )


def chosen_samples(exposition: Iterable[str]) -> list[str]:
    """A few telling lines of a Prometheus exposition."""
    samples = [
        line for line in exposition if not line.startswith("#") and not line.endswith(" 0.0")
    ]
    return [
        line
        for wanted in _SAMPLES
        for line in samples
        if line.startswith(f"{wanted}{{") or ("phase_seconds" in line and wanted in line)
    ]
