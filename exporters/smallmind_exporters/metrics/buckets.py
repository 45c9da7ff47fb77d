"""Bucket boundaries of the histograms, in seconds and tokens.

Those that stand for a metric of the OpenTelemetry GenAI conventions begin with the boundaries that
these advise, so that dashboards made for them keep working, and go on upwards for slow CPUs.
"""

from __future__ import annotations

from typing import Final

CONVENTION_FIRST_TOKEN: Final = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0),
)
CONVENTION_DURATION: Final = (
    *(0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64),
    *(1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92),
)
CONVENTION_PER_TOKEN: Final = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75),
    *(1.0, 2.5),
)
CONVENTION_TOKENS: Final = tuple(float(4**power) for power in range(14))

FIRST_TOKEN: Final = (*CONVENTION_FIRST_TOKEN, 20.0, 40.0, 80.0, 160.0)
DURATION: Final = (*CONVENTION_DURATION, 163.84, 327.68, 655.36)
PER_TOKEN: Final = (*CONVENTION_PER_TOKEN, 5.0, 10.0, 20.0)
# No convention names this one; small models decode in 2 to 10 ms, below the advised boundaries.
INTER_TOKEN: Final = (0.001, 0.0025, 0.005, 0.0075, *PER_TOKEN)
CONSUMER_WAIT: Final = (
    *(0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5),
    *(1.0, 5.0, 10.0, 60.0),
)
TOKENS: Final = CONVENTION_TOKENS
SEQUENCES: Final = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 64.0)
NATS: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0)
SHARES: Final = (0.001, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
