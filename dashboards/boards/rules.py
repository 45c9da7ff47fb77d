"""Prometheus rules: objectives as recorded shares, and the alerts that burn them.

The objectives are boundaries of buckets, so that the shares are exact. Burn rates over two windows
each, the long one for how much of the budget is gone and the short one so that an alert ends soon
after its cause. Source: Google, "The Site Reliability Workbook", chapter 5, method 6.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from boards.promql import rate, selector, total
from smallmind_exporters.metrics import FAMILIES

OBJECTIVE: Final = 0.99
"""Share of requests, or of tokens, that are to be in time."""


class Severity(StrEnum):
    """Who is to look, and when."""

    PAGE = "page"
    TICKET = "ticket"


@dataclass(frozen=True, slots=True)
class Recording:
    """A series that Prometheus computes and keeps."""

    record: str
    expr: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """When someone is to look.

    Attributes:
        name: of the alert.
        expr: fires for each series that it gives.
        looks_at: expressions that have data all the time, from which ``expr`` is made.
        lasts: how long it must hold first.
        severity: who is to look.
        summary: one sentence; labels in ``{{ $labels.x }}``.
        remedy: what to do.
        board: uid of the dashboard to look at.
    """

    name: str
    expr: str
    looks_at: tuple[str, ...]
    lasts: str = "0s"
    severity: Severity = Severity.TICKET
    summary: str
    remedy: str
    board: str


@dataclass(frozen=True, slots=True)
class Objective:
    """How fast is fast enough.

    Attributes:
        name: of the recorded series, after ``smallmind:``.
        family: a histogram.
        seconds: one of its bucket boundaries.
        what: for the alerts' text.
        alert: beginning of the alerts' names.
    """

    name: str
    family: str
    seconds: float
    what: str
    alert: str
    windows: tuple[str, ...] = field(default=("5m", "30m", "1h", "2h", "6h", "1d", "3d"))


OBJECTIVES: Final = (
    Objective(
        "first_token_late",
        "time_to_first_token_seconds",
        2.5,
        "first tokens",
        "SmallMindFirstTokenLate",
    ),
    Objective(
        "token_late", "inter_token_seconds", 0.2, "tokens after the first", "SmallMindTokensLate"
    ),
)


def _late(objective: Objective, window: str) -> str:
    """Share of what was slower than the objective, by model.

    Raises:
        ValueError: the objective is no boundary of a bucket.
    """
    family = next(family for family in FAMILIES if family.name == objective.family)
    if objective.seconds not in family.buckets:
        raise ValueError(f"{objective.seconds} s is no bucket of {family.name}")
    within = rate(
        family.name,
        ("model",),
        f'le="{objective.seconds!r}"',
        suffix="_bucket",
        window=window,
        variables=False,
    )
    everything = rate(family.name, ("model",), suffix="_count", window=window, variables=False)
    return f"1 - {within}\n  / ({everything} > 0)"


def _recorded(objective: Objective, window: str) -> str:
    return f"smallmind:{objective.name}:ratio_rate{window}"


def _burns(objective: Objective, severity: Severity, *pairs: tuple[str, str, float]) -> Alert:
    """Fires when the budget burns so many times too fast over both windows of any pair."""
    budget = 1 - OBJECTIVE
    either = "\nor\n".join(
        f"({_recorded(objective, long)} > {factor:g} * {budget:.4g}"
        f" and {_recorded(objective, short)} > {factor:g} * {budget:.4g})"
        for long, short, factor in pairs
    )
    windows = {window for long, short, _ in pairs for window in (long, short)}
    speed = "fast" if severity is Severity.PAGE else "slowly"
    return Alert(
        name=objective.alert + ("Fast" if severity is Severity.PAGE else "Slow"),
        expr=either,
        looks_at=tuple(_recorded(objective, w) for w in objective.windows if w in windows),
        severity=severity,
        summary=f"{{{{ $value | humanizePercentage }}}} of {objective.what} of "
        f"{{{{ $labels.model }}}} take longer than {objective.seconds:g} s: "
        f"the budget of {budget:.0%} burns {speed}.",
        remedy="See which phase takes the time; a long queue wants fewer requests or more "
        "workers, a slow decode a smaller model or fewer threads elsewhere.",
        board="smallmind-latency",
    )


RECORDINGS: Final[tuple[Recording, ...]] = (
    *(
        Recording(_recorded(objective, window), _late(objective, window))
        for objective in OBJECTIVES
        for window in objective.windows
    ),
    Recording(
        "smallmind:failed:ratio_rate5m",
        rate("requests_total", ("model",), 'status="failed"', window="5m", variables=False)
        + "\n  / ("
        + rate("requests_total", ("model",), window="5m", variables=False)
        + " > 0)",
    ),
    Recording(
        "smallmind:queue:share_rate5m",
        rate(
            "request_phase_seconds_total",
            ("model",),
            'phase="queue"',
            window="5m",
            variables=False,
        )
        + "\n  / ("
        + rate("request_phase_seconds_total", ("model",), window="5m", variables=False)
        + " > 0)",
    ),
    Recording(
        "smallmind:telemetry:share_rate5m",
        rate(
            "request_phase_seconds_total",
            ("model",),
            'phase="telemetry"',
            window="5m",
            variables=False,
        )
        + "\n  / ("
        + rate("request_phase_seconds_total", ("model",), window="5m", variables=False)
        + " > 0)",
    ),
)


def _grew(name: str, where: str = "", *, by: str = "") -> str:
    """How much a counter grew in five minutes."""
    series = selector(name, where, variables=False)
    return f"sum by ({by}) (increase({series}[5m]))" if by else f"sum(increase({series}[5m]))"


def _grew_or_new(grown: str, now: str) -> str:
    """A counter that grew, or that was not zero when it was first seen: as a model is loaded, say.

    ``increase`` knows nothing of what was before the first scrape.
    """
    before = now.removesuffix(")") + " offset 5m)"
    return f"{grown} > 0\nor\n({now} > 0 unless {before})"


_REJECTED: Final = _grew("rejected_total", 'reason="BACKPRESSURE_QUEUE_FULL"', by="model")
_REFUSED: Final = _grew(
    "memory_budget_events_total", 'reason="MEMORY_BUDGET_EXCEEDED"', by="model, category"
)
_LESS: Final = _grew(
    "memory_budget_events_total", 'reason="MEMORY_BUDGET_SOFT_LIMIT"', by="model, category"
)
_ERRORS: Final = _grew("telemetry_exporter_errors_total", by="exporter")
_ERRORS_NOW: Final = total("telemetry_exporter_errors_total", ("exporter",), variables=False)
_DROPPED: Final = _grew("telemetry_events_dropped_total", by="exporter")
_DROPPED_NOW: Final = total("telemetry_events_dropped_total", ("exporter",), variables=False)
_INVALID: Final = _grew("telemetry_invalid_values_total")
_BROKEN: Final = _grew("request_errors_total", 'error_type="InferenceError"', by="model")
_EVICTED: Final = _grew("kv_cache_evictions_total", by="model")
_PRESENT: Final = selector("telemetry_processes", variables=False)

ALERTS: Final[tuple[Alert, ...]] = (
    *(
        alert
        for objective in OBJECTIVES
        for alert in (
            _burns(objective, Severity.PAGE, ("1h", "5m", 14.4), ("6h", "30m", 6)),
            _burns(objective, Severity.TICKET, ("1d", "2h", 3), ("3d", "6h", 1)),
        )
    ),
    Alert(
        name="SmallMindQueueFull",
        expr=f"{_REJECTED} > 0",
        looks_at=(_REJECTED,),
        lasts="1m",
        severity=Severity.PAGE,
        summary="{{ $labels.model }} turns requests away because its queue is full.",
        remedy="Send less, add workers, or raise max_queue_depth when callers can wait.",
        board="smallmind-scheduler",
    ),
    Alert(
        name="SmallMindQueueSaturated",
        expr="smallmind:queue:share_rate5m > 0.5",
        looks_at=("smallmind:queue:share_rate5m",),
        lasts="5m",
        summary="Requests of {{ $labels.model }} spend {{ $value | humanizePercentage }} of their"
        " time in the queue.",
        remedy="More requests at once (max_concurrency), more workers, or shorter requests.",
        board="smallmind-scheduler",
    ),
    Alert(
        name="SmallMindMemoryBudgetExceeded",
        expr=f"{_REFUSED} > 0",
        looks_at=(_REFUSED,),
        severity=Severity.PAGE,
        summary="The memory budget refuses {{ $labels.category }} of {{ $labels.model }}.",
        remedy="Raise the budget, shorten contexts, or take a smaller quantisation.",
        board="smallmind-memory",
    ),
    Alert(
        name="SmallMindMemoryBudgetShort",
        expr=f"{_LESS} > 0",
        looks_at=(_LESS,),
        summary="The memory budget gives less {{ $labels.category }} than {{ $labels.model }} asked"
        " for.",
        remedy="Requests go on with less room; raise the budget when they stop too early.",
        board="smallmind-memory",
    ),
    Alert(
        name="SmallMindCacheTooSmall",
        expr=f"{_EVICTED} > 10",
        looks_at=(_EVICTED,),
        lasts="5m",
        summary="{{ $labels.model }} drops idle caches all the time.",
        remedy="Give the KV cache more memory, or close sessions that are done.",
        board="smallmind-memory",
    ),
    Alert(
        name="SmallMindRequestsFail",
        expr="smallmind:failed:ratio_rate5m > 0.01",
        looks_at=("smallmind:failed:ratio_rate5m",),
        lasts="1m",
        severity=Severity.PAGE,
        summary="{{ $value | humanizePercentage }} of the requests of {{ $labels.model }} fail.",
        remedy="smallmind_request_errors_total has the class of the error, the trace has the rest.",
        board="smallmind-overview",
    ),
    Alert(
        name="SmallMindModelGivesNoNumbers",
        expr=f"{_BROKEN} > 0",
        looks_at=(_BROKEN,),
        severity=Severity.PAGE,
        summary="{{ $labels.model }} computes what is no number, and its requests fail.",
        remedy="Compare it with a reference, smallmind validate; try backend=numpy.",
        board="smallmind-overview",
    ),
    Alert(
        name="SmallMindExporterFails",
        expr=_grew_or_new(_ERRORS, _ERRORS_NOW),
        looks_at=(_ERRORS, _ERRORS_NOW),
        summary="The exporter {{ $labels.exporter }} raises errors; after five in a row it is"
        " detached.",
        remedy="The log has its last error; requests are not affected.",
        board="smallmind-telemetry",
    ),
    Alert(
        name="SmallMindEventsDropped",
        expr=_grew_or_new(_DROPPED, _DROPPED_NOW),
        looks_at=(_DROPPED, _DROPPED_NOW),
        summary="The exporter {{ $labels.exporter }} is too slow and loses events.",
        remedy="Its sink is slow or away; ask for less detail, or give it a larger queue.",
        board="smallmind-telemetry",
    ),
    Alert(
        name="SmallMindInvalidValues",
        expr=f"{_INVALID} > 0",
        looks_at=(_INVALID,),
        summary="Some readings are not a number, infinite or negative.",
        remedy="A clock or a kernel misbehaves; validate the model with smallmind validate.",
        board="smallmind-telemetry",
    ),
    Alert(
        name="SmallMindTelemetryCostly",
        expr="smallmind:telemetry:share_rate5m > 0.05",
        looks_at=("smallmind:telemetry:share_rate5m",),
        lasts="5m",
        summary="Telemetry takes {{ $value | humanizePercentage }} of the time of"
        " {{ $labels.model }}'s requests.",
        remedy='Load with detail="request", or detach exporters that need every token.',
        board="smallmind-telemetry",
    ),
    Alert(
        name="SmallMindAbsent",
        expr=f"absent({_PRESENT})",
        looks_at=(_PRESENT,),
        lasts="1m",
        severity=Severity.PAGE,
        summary="No smallmind process is scraped.",
        remedy="See whether the service runs, and whether Prometheus reaches its port.",
        board="smallmind-overview",
    ),
)
