"""Renders a report: one page, with its styles and its script inside, that loads nothing."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from itertools import chain
from typing import Any, Final

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from smallmind._cli.formatting import (
    bytes_text,
    count_text,
    rate_text,
    seconds_text,
    share_text,
)
from smallmind._report import drawing
from smallmind._report.distributions import Durations
from smallmind._report.requests import LogContents, ReportedRequest
from smallmind._version import __version__
from smallmind_engine.telemetry import ANCHOR, REASONS, Phase

MOST_REQUESTS: Final = 2_000
MOST_TOKENS: Final = 200_000

_FOLDER: Final = files("smallmind._report").joinpath("page")
_PHASES: Final = tuple(phase.value for phase in Phase)


@dataclass(frozen=True, slots=True)
class _Chart:
    """A distribution with its drawing."""

    name: str
    note: str
    durations: Durations
    histogram: drawing.Histogram


def render(contents: LogContents, title: str) -> str:
    """The page as HTML.

    Nothing in it is taken from the log unescaped, and its content security policy lets no other
    script or style run than its own, and nothing be loaded.

    Args:
        contents: of a log.
        title: of the page, such as the log's name.
    """
    style, script = _text("report.css"), _text("report.js")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(
        seconds=seconds_text,
        rate=rate_text,
        size=bytes_text,
        count=count_text,
        share=share_text,
        wall=_wall_text,
        marked=_marked,
        digits=lambda number: "" if number is None else repr(number),
    )
    template = environment.from_string(_text("report.html.jinja"))
    return template.render(
        title=title,
        version=__version__,
        style=style,
        style_hash=_hash(style),
        script=script,
        script_hash=_hash(script),
        contents=contents,
        draw=drawing,
        **_figures(contents),
    )


def _text(name: str) -> str:
    return _FOLDER.joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """For the content security policy, of what stands between the tags."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _figures(contents: LogContents) -> dict[str, Any]:
    requests = contents.requests
    stopped = [each.stopped for each in requests if each.stopped is not None]
    shown = requests[-MOST_REQUESTS:]
    chosen = max(
        (index for index, each in enumerate(requests) if each.engine_s),
        key=lambda index: requests[index].duration_s,
        default=None,
    )
    ledger: Counter[str] = Counter()
    for each in stopped:
        ledger.update(dict(each.ledger))
    rates = sorted(rate for each in requests if (rate := each.rate) is not None)
    reasons = Counter((each.status.value, each.reason.value) for each in stopped)
    return {
        "charts": tuple(_charts(requests)),
        "chosen": chosen,
        "document": _document(requests, len(requests) - len(shown)),
        "first_index": len(requests) - len(shown),
        "ledger": [(phase, ledger[phase]) for phase in _PHASES],
        "meanings": {reason.code.value: reason for reason in REASONS},
        "median_rate": rates[len(rates) // 2] if rates else None,
        "prompt_tokens": sum(each.prompt_tokens for each in stopped),
        "reasons": reasons.most_common(),
        "shown": shown,
        "statuses": Counter(each.status for each in requests),
        "timeline": drawing.timeline(contents),
        "tokens": sum(len(each.engine_s) for each in requests),
        "completion_tokens": sum(each.completion_tokens for each in stopped),
        "whole_s": ((contents.ended_ns or 0) - (contents.begun_ns or 0)) / 1e9,
    }


def _charts(requests: tuple[ReportedRequest, ...]) -> list[_Chart]:
    first = [
        each.stopped.time_to_first_token_s
        for each in requests
        if each.stopped is not None and each.stopped.time_to_first_token_s is not None
    ]
    between = chain.from_iterable(each.engine_s[1:] for each in requests)
    whole = [each.duration_s for each in requests if each.stopped is not None]
    rows = (
        ("Time to first token", "from submission, queue included", first),
        ("Between tokens", "the engine's time, without the reader's", between),
        ("Whole request", "from submission to end, however it ended", whole),
    )
    charts = []
    for name, note, seconds in rows:
        durations = Durations.of(seconds)
        charts.append(_Chart(name, note, durations, drawing.histogram(durations)))
    return charts


def _document(requests: tuple[ReportedRequest, ...], first_index: int) -> list[dict[str, Any]]:
    """What the script needs of the requests; the last ones have their tokens."""
    rows = []
    room = MOST_TOKENS
    for each in reversed(requests[first_index:]):
        room -= len(each.engine_s)
        whole = room >= 0
        rows.append(
            {
                "id": each.request_id,
                "status": each.status,
                "reason": "" if each.stopped is None else each.stopped.reason.value,
                "engine": [_finite(s) for s in each.engine_s] if whole else None,
                "reader": [_finite(s) for s in each.consumer_s] if whole else None,
                "ledger": [list(row) for row in (each.stopped.ledger if each.stopped else ())],
                "duration": _finite(each.duration_s),
            }
        )
    return rows[::-1]


def _marked(text: str) -> Markup:
    """Text of our own tables, what is between backticks as code."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped first


def _finite(seconds: float) -> float:
    return seconds if math.isfinite(seconds) else 0.0


def _wall_text(time_ns: int | None) -> str:
    if time_ns is None:
        return "-"
    try:
        at = datetime.fromtimestamp(ANCHOR.to_wall_ns(time_ns) / 1e9, UTC)
    except (ValueError, OverflowError, OSError):  # a clock gone wild, or a log made by hand
        return "?"
    return at.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + " UTC"
