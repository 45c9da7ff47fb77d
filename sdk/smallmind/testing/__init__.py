"""For tests of yours: capture what an engine tells, and check exporters that you write.

>>> from smallmind.testing import capture
>>> with smallmind.load("smollm2") as engine, capture(engine) as seen:  # doctest: +SKIP
...     engine.generate("Hello", max_tokens=4)
...     seen.assert_completed()
...     seen.assert_ttft_below(2.0)
"""

from smallmind.testing._capture import Recording, capture
from smallmind.testing._contract import CHECKS, ExporterContract, MakeExporter, check_exporter
from smallmind.testing._samples import every_event, request_events, sample_correlation

__all__ = [
    "CHECKS",
    "ExporterContract",
    "MakeExporter",
    "Recording",
    "capture",
    "check_exporter",
    "every_event",
    "request_events",
    "sample_correlation",
]
