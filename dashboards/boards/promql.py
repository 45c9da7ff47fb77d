"""Builds PromQL over the table of metrics: a wrong name or label fails when it is generated."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from smallmind_exporters.metrics import FAMILIES, PREFIX, Family, MetricKind

WINDOW: Final = "$__rate_interval"

_BY_NAME: Final = {family.name: family for family in FAMILIES}
_INSTANCE: Final = "instance"


def selector(name: str, where: str = "", *, suffix: str = "", variables: bool = True) -> str:
    """The series of a family, narrowed to the chosen models and instances.

    Args:
        name: of the family, without the prefix.
        where: further matchers, such as ``status="failed"``.
        suffix: of a histogram's series: ``_bucket``, ``_count`` or ``_sum``.
        variables: whether the dashboard's variables narrow it; rules have none.

    Raises:
        KeyError: there is no such family.
    """
    family = _BY_NAME[name]
    matchers = [where] if where else []
    if variables:
        matchers = [
            *(['model=~"$model"'] if family.per_model else []),
            f'{_INSTANCE}=~"$instance"',
            *matchers,
        ]
    inside = ",".join(matchers)
    return f"{PREFIX}{name}{suffix}" + (f"{{{inside}}}" if inside else "")


def rate(
    name: str,
    by: Iterable[str] = (),
    where: str = "",
    *,
    window: str = WINDOW,
    variables: bool = True,
    suffix: str = "",
) -> str:
    """How fast a counter, or a part of a histogram, grows each second, summed by ``by``."""
    labels = _checked(_BY_NAME[name], by)
    series = selector(name, where, suffix=suffix, variables=variables)
    return f"sum{labels} (rate({series}[{window}]))"


def increase(name: str, by: Iterable[str] = (), where: str = "") -> str:
    """How much a counter grew in the shown time, summed by ``by``."""
    return f"sum{_checked(_BY_NAME[name], by)} (increase({selector(name, where)}[$__range]))"


def total(name: str, by: Iterable[str] = (), where: str = "", *, variables: bool = True) -> str:
    """A gauge now, summed by ``by``."""
    return f"sum{_checked(_BY_NAME[name], by)} ({selector(name, where, variables=variables)})"


def quantile(share: float, name: str, by: Iterable[str] = ("model",), where: str = "") -> str:
    """The quantile of a histogram.

    Raises:
        ValueError: the family is no histogram.
    """
    family = _BY_NAME[name]
    if family.kind is not MetricKind.HISTOGRAM:
        raise ValueError(f"{name} is a {family.kind}, and only histograms have quantiles")
    _checked(family, by)
    labels = ", ".join(("le", *by))
    series = selector(name, where, suffix="_bucket")
    return f"histogram_quantile({share:g}, sum by ({labels}) (rate({series}[{WINDOW}])))"


def mean(name: str, by: Iterable[str] = ("model",), where: str = "") -> str:
    """The mean of a histogram's values."""
    return rate(name, by, where, suffix="_sum") + "\n  / " + rate(name, by, where, suffix="_count")


def ratio(part: str, whole: str) -> str:
    """One expression as a share of another; no data while the whole is zero."""
    return f"{part}\n  / ({whole} > 0)"


def _checked(family: Family, by: Iterable[str]) -> str:
    """The ``by`` clause.

    Raises:
        ValueError: the family has no such label.
    """
    labels = tuple(by)
    unknown = set(labels) - {label.name for label in family.labels} - {_INSTANCE}
    if unknown:
        raise ValueError(f"{family.name} has no label {', '.join(sorted(unknown))}")
    return f" by ({', '.join(labels)})" if labels else ""
