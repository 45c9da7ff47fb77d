"""Shapes of the page's charts: plain numbers, which the template turns into SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from smallmind._cli.formatting import seconds_text
from smallmind._report.distributions import Durations
from smallmind._report.requests import LogContents, ReportedRequest

TIMELINE_WIDTH: Final = 1000
ROW_HEIGHT: Final = 20
_SHOWN_ROWS: Final = 200
_THINNEST: Final = 1.5
CHART_WIDTH: Final = 320
CHART_HEIGHT: Final = 120
STRIP_HEIGHT: Final = 130
_NICE: Final = (1, 2, 5, 10)


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle with a class for its colour and a text for the mouse."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    title: str = ""


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on an axis; ``anchor`` is the side of its label that stands at ``x``."""

    x: float
    label: str
    anchor: str = "middle"


@dataclass(frozen=True, slots=True)
class TimelineRow:
    """A request on the timeline."""

    index: int
    y: float
    request: ReportedRequest
    boxes: tuple[Box, ...]


@dataclass(frozen=True, slots=True)
class Timeline:
    """The requests over time; ``left_out`` of them are not drawn."""

    rows: tuple[TimelineRow, ...]
    ticks: tuple[Tick, ...]
    height: float
    left_out: int


@dataclass(frozen=True, slots=True)
class Histogram:
    """The bins of a distribution, and where its percentiles lie."""

    boxes: tuple[Box, ...]
    marks: tuple[Tick, ...]
    low: str
    high: str


def timeline(contents: LogContents) -> Timeline:
    """Each request in a row: when it waited, read its prompt, decoded, and for whom it waited."""
    begun, ended = contents.begun_ns or 0, contents.ended_ns or 1
    first = min((each.begun_ns for each in contents.requests), default=begun)
    span_ns = max(1, ended - first)
    scale = TIMELINE_WIDTH / span_ns
    shown = list(enumerate(contents.requests))[-_SHOWN_ROWS:]
    rows = tuple(
        TimelineRow(index, place * ROW_HEIGHT, request, tuple(_boxes(request, first, scale)))
        for place, (index, request) in enumerate(shown)
    )
    return Timeline(
        rows,
        tuple(_ticks(span_ns / 1e9)),
        len(rows) * ROW_HEIGHT,
        len(contents.requests) - len(rows),
    )


def _boxes(request: ReportedRequest, first_ns: int, scale: float) -> list[Box]:
    end_ns = request.latest_ns
    edges = [
        ("queue", request.begun_ns, request.admitted_ns or end_ns),
        ("prepare", request.admitted_ns, request.started_ns or end_ns),
        ("prefill", request.started_ns, request.prefilled_ns or end_ns),
        ("decode", request.prefilled_ns, end_ns),
    ]
    boxes = []
    for kind, begin, end in edges:
        if begin is None:
            continue
        title = f"{request.request_id}: {kind} {seconds_text((end - begin) / 1e9)}"
        boxes.append(_box(begin, end, first_ns, scale, kind, title))
    return boxes + _reader_boxes(request, first_ns, scale)


def _reader_boxes(request: ReportedRequest, first_ns: int, scale: float) -> list[Box]:
    """Where the stream's reader held the request up; neighbours closer than a pixel join."""
    spans: list[tuple[int, int]] = []
    known_ns = [request.token_ns[0], *request.token_ns] if request.token_ns else []
    for since_ns, seconds in zip(known_ns, request.consumer_s, strict=False):
        if seconds <= 0.0:
            continue
        begin, end = since_ns, since_ns + round(seconds * 1e9)
        if spans and (begin - spans[-1][1]) * scale < 1.0:
            spans[-1] = (spans[-1][0], end)
        elif (end - begin) * scale >= _THINNEST:
            spans.append((begin, end))
    title = f"{request.request_id}: the reader took {seconds_text(sum(request.consumer_s))}"
    return [_box(begin, end, first_ns, scale, "consumer", title) for begin, end in spans]


def _box(begin: int, end: int, first_ns: int, scale: float, kind: str, title: str) -> Box:
    width = max((end - begin) * scale, _THINNEST)
    return Box(_short((begin - first_ns) * scale), 4, _short(width), ROW_HEIGHT - 8, kind, title)


def _ticks(span_s: float) -> list[Tick]:
    """Round times, some eight of them."""
    rough = span_s / 8
    power = 10.0 ** math.floor(math.log10(rough)) if rough > 0 else 1.0
    step = next((n * power for n in _NICE if n * power >= rough), 10 * power)
    return [
        Tick(_short(n * step / span_s * TIMELINE_WIDTH), seconds_text(n * step) if n else "0")
        for n in range(int(span_s / step) + 1)
    ]


def histogram(durations: Durations) -> Histogram:
    """Bars of the bins, and marks of the percentiles."""
    if not durations.bins:
        return Histogram((), (), "", "")
    most = max(each.count for each in durations.bins)
    width = CHART_WIDTH / len(durations.bins)
    boxes = []
    for place, each in enumerate(durations.bins):
        height = CHART_HEIGHT * each.count / most
        title = f"{each.count} from {seconds_text(each.low_s)} to {seconds_text(each.high_s)}"
        top = CHART_HEIGHT - height
        boxes.append(
            Box(
                _short(place * width),
                _short(top),
                _short(width * 0.9),
                _short(height),
                "bin",
                title,
            )
        )
    low, high = durations.bins[0].low_s, durations.bins[-1].high_s
    scale = CHART_WIDTH / math.log(high / low)
    marks = tuple(
        _mark(_short(math.log(max(seconds, low) / low) * scale), f"p{percentile}")
        for percentile, seconds in durations.percentiles_s.items()
        if percentile in {50, 95}
    )
    return Histogram(tuple(boxes), marks, seconds_text(low), seconds_text(high))


def _mark(x: float, label: str) -> Tick:
    """A percentile; near an end of the chart its label stays inside."""
    near = CHART_WIDTH / 20
    anchor = "start" if x < near else "end" if x > CHART_WIDTH - near else "middle"
    return Tick(x, label, anchor)


def strip_scale_s(engine_s: Sequence[float], consumer_s: Sequence[float]) -> float:
    """What the height of a strip stands for: the longest token after the first.

    The first one holds the queue and the prefill, and would make all others vanish.
    """
    sums = [max(0.0, e) + max(0.0, c) for e, c in zip(engine_s, consumer_s, strict=True)]
    return max(sums[1:] or sums, default=0.0)


def strip(engine_s: Sequence[float], consumer_s: Sequence[float]) -> tuple[Box, ...]:
    """A bar for each token: the engine's time below, the reader's on top."""
    scale = STRIP_HEIGHT / (strip_scale_s(engine_s, consumer_s) or 1.0)
    width = TIMELINE_WIDTH / max(len(engine_s), 1)
    boxes = []
    for place, (engine, consumer) in enumerate(zip(engine_s, consumer_s, strict=True)):
        x, bar = _short(place * width), _short(max(width * 0.85, 0.5))
        engine_height = min(max(0.0, engine) * scale, STRIP_HEIGHT)
        consumer_height = min(max(0.0, consumer) * scale, STRIP_HEIGHT - engine_height)
        title = f"token {place}: engine {seconds_text(engine)}, reader {seconds_text(consumer)}"
        y = STRIP_HEIGHT - engine_height
        kind = "decode" if place else "prefill"
        boxes.append(Box(x, _short(y), bar, _short(engine_height), kind, title))
        if consumer_height:
            y -= consumer_height
            boxes.append(Box(x, _short(y), bar, _short(consumer_height), "consumer", title))
    return tuple(boxes)


def _short(number: float) -> float:
    return round(number, 2)
