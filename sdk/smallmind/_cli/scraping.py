"""Live figures from a ``/metrics`` page, scrape by scrape."""

from __future__ import annotations

import math
import time
import urllib.request
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Final

from smallmind_engine.telemetry import ReasonCode, RequestStatus
from smallmind_engine.telemetry.errors import ConfigError, ExporterError, MissingExtraError
from smallmind_engine.telemetry.live import HISTORY_S, WINDOW_S, LiveFigures, Quantiles

_PREFIX: Final = "smallmind_"
_TIMEOUT_S: Final = 5.0
_MOST_BYTES: Final = 32 * 2**20
_SCHEMES: Final = ("http://", "https://")

Samples = Sequence[tuple[str, Mapping[str, str], float]]
"""Name without the prefix, labels, value."""


class Scraper:
    """Scrapes one page again and again; speeds come from the differences.

    Args:
        url: of the page.
        clock: seconds, monotonic.

    Raises:
        ConfigError: the URL is not one of HTTP.
        MissingExtraError: ``prometheus-client`` is not installed.
    """

    def __init__(self, url: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        if not url.startswith(_SCHEMES):
            raise ConfigError(
                ReasonCode.OPTION_INVALID,
                f"{url!r} is no address of a metrics page",
                hint="pass http://host:port/metrics, or the path of a log",
                url=url,
            )
        try:
            from prometheus_client.parser import text_string_to_metric_families
        except ModuleNotFoundError as error:
            raise MissingExtraError("prometheus", "reading a metrics page") from error
        self._parse = text_string_to_metric_families
        self._url = url
        self._clock = clock
        self._counts: deque[tuple[float, float]] = deque(maxlen=HISTORY_S + 1)

    def figures(self) -> LiveFigures:
        """What the page says now.

        Raises:
            ExporterError: it cannot be fetched, or is no page of metrics.
        """
        text = self._fetched()
        try:
            samples = [
                (sample.name.removeprefix(_PREFIX), sample.labels, sample.value)
                for family in self._parse(text)
                for sample in family.samples
                if sample.name.startswith(_PREFIX)
            ]
        except (ValueError, KeyError, IndexError) as error:
            raise _unavailable(self._url, f"no page of metrics: {error}") from error
        figures = figures_of(samples)
        self._note(self._clock(), figures.generated_tokens)
        return LiveFigures(
            **{name: getattr(figures, name) for name in _TOLD_BY_A_PAGE},
            tokens_per_second=self._rate(),
            history=self._history(),
        )

    def _fetched(self) -> str:
        request = urllib.request.Request(self._url, headers={"Accept": "text/plain;version=0.0.4"})  # noqa: S310 - the scheme was checked
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - as above
                return str(answer.read(_MOST_BYTES).decode("utf-8", "replace"))
        except (OSError, ValueError) as error:
            raise _unavailable(self._url, f"{type(error).__name__}: {error}") from error

    def _note(self, now: float, tokens: float) -> None:
        if self._counts and tokens < self._counts[-1][1]:
            self._counts.clear()  # the process began anew
        self._counts.append((now, tokens))

    def _rate(self) -> float | None:
        """Tokens per second over the last ten seconds or so."""
        now, tokens = self._counts[-1]
        before = [each for each in self._counts if each[0] < now and now - each[0] <= WINDOW_S]
        if not before:
            return None
        return (tokens - before[0][1]) / (now - before[0][0])

    def _history(self) -> tuple[float, ...]:
        counts = list(self._counts)
        return tuple(
            (tokens - before) / (now - then)
            for (then, before), (now, tokens) in pairwise(counts)
            if now > then
        )


def figures_of(samples: Samples) -> LiveFigures:
    """What one page says, over all models and label values."""
    total: defaultdict[str, float] = defaultdict(float)
    ended: Counter[str] = Counter()
    memory: Counter[str] = Counter()
    models: dict[str, str] = {}
    buckets: dict[str, defaultdict[float, float]] = {}
    for name, labels, value in samples:
        total[name] += value if math.isfinite(value) else 0.0
        if name == "requests_total":
            ended[labels.get("status", "")] += int(value)
        elif name == "memory_high_water_bytes":
            memory[labels.get("category", "")] += int(value)
        elif name == "model_info":
            facts = (labels.get(each, "") for each in ("architecture", "quantization", "backend"))
            models[labels.get("model", "")] = ", ".join(fact for fact in facts if fact)
        elif name.endswith("_bucket"):
            family = buckets.setdefault(name.removesuffix("_bucket"), defaultdict(float))
            family[float(labels.get("le", "inf"))] += value
    known = {name for name, _, _ in samples}
    return LiveFigures(
        models=tuple(f"{name} ({facts})" for name, facts in models.items()),
        waiting=int(total["queue_depth"]),
        running=int(total["requests_in_flight"]),
        ended=tuple((status.value, ended[status.value]) for status in RequestStatus),
        generated_tokens=int(total["generated_tokens_total"]),
        prompt_tokens=int(total["prompt_tokens_total"]),
        first_token=_quantiles(buckets.get("time_to_first_token_seconds")),
        inter_token=_quantiles(buckets.get("inter_token_seconds")),
        whole=_quantiles(buckets.get("request_duration_seconds")),
        kv_used_tokens=_known(total, known, "kv_cache_used_tokens"),
        kv_capacity_tokens=_known(total, known, "kv_cache_capacity_tokens"),
        kv_used_bytes=_known(total, known, "kv_cache_used_bytes"),
        memory=tuple(memory.items()),
        lost_events=int(total["telemetry_events_dropped_total"]),
    )


_TOLD_BY_A_PAGE: Final = (
    *("models", "waiting", "running", "ended", "generated_tokens", "prompt_tokens"),
    *("first_token", "inter_token", "whole", "memory", "lost_events"),
    *("kv_used_tokens", "kv_capacity_tokens", "kv_used_bytes"),
)


def _known(total: Mapping[str, float], known: set[str], name: str) -> int | None:
    return int(total[name]) if name in known else None


def _quantiles(buckets: Mapping[float, float] | None) -> Quantiles:
    if not buckets:
        return Quantiles()
    return Quantiles(_quantile(buckets, 0.5), _quantile(buckets, 0.95))


def _quantile(buckets: Mapping[float, float], share: float) -> float | None:
    """As ``histogram_quantile`` of PromQL: linear inside the bucket that holds the rank."""
    bounds = sorted(buckets)
    rank = share * buckets[bounds[-1]]
    if rank <= 0.0:
        return None
    below, counted = 0.0, 0.0
    for bound in bounds:
        if buckets[bound] >= rank:
            if math.isinf(bound):
                return below
            return below + (bound - below) * (rank - counted) / (buckets[bound] - counted)
        below, counted = bound, buckets[bound]
    return below


def _unavailable(url: str, cause: str) -> ExporterError:
    return ExporterError(
        ReasonCode.EXPORTER_UNAVAILABLE,
        f"cannot read {url}: {cause}",
        hint="is the process running, and its metrics served there?",
        url=url,
    )
