"""What pairs of measurements say: a median, how sure it is, and whether it keeps a limit."""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

RESAMPLES = 4_000
CONFIDENCE = 0.95
SEED = 20_260

OK, TOO_MUCH, UNDECIDED = "ok", "too much", "undecided"


@dataclass(frozen=True)
class Estimate:
    """A median and the interval that it lies in with 95 % confidence.

    Attributes:
        value: the median.
        low: lower end of the interval.
        high: upper end of it.
        count: measurements behind it.
    """

    value: float
    low: float
    high: float
    count: int

    def shifted(self, amount: float) -> Estimate:
        """The same, more by an amount that is known."""
        return Estimate(self.value + amount, self.low + amount, self.high + amount, self.count)

    def times(self, factor: float) -> Estimate:
        """The same in another unit."""
        return Estimate(self.value * factor, self.low * factor, self.high * factor, self.count)


def estimate(values: Sequence[float]) -> Estimate:
    """The median, and the percentiles of the medians of bootstrap samples.

    >>> estimate([1.0, 2.0, 3.0]).value
    2.0
    """
    dice = random.Random(SEED)  # noqa: S311 - the same values give the same interval
    medians = sorted(
        statistics.median(dice.choices(values, k=len(values))) for _ in range(RESAMPLES)
    )
    edge = (1.0 - CONFIDENCE) / 2.0
    return Estimate(
        statistics.median(values),
        medians[int(edge * RESAMPLES)],
        medians[int((1.0 - edge) * RESAMPLES) - 1],
        len(values),
    )


def verdict(found: Estimate, limit: float) -> str:
    """Whether the whole interval is on one side of the limit; ``undecided`` when it is not.

    >>> verdict(Estimate(0.01, 0.0, 0.02, 9), 0.03), verdict(Estimate(0.02, 0.0, 0.04, 9), 0.03)
    ('ok', 'undecided')
    """
    if found.high <= limit:
        return OK
    return TOO_MUCH if found.low > limit else UNDECIDED
