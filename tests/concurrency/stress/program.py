"""Runs engines under stress, one after the other, and reports."""

from __future__ import annotations

import faulthandler
import json
import statistics
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from concurrency.stress.life import JOIN_S, live
from concurrency.stress.prompts import tokens_alone
from concurrency.stress.settings import Settings, backends, model_file

WATCHDOG_S: Final = 3 * JOIN_S
"""So much longer than it should a life may take, before all threads are shown and the run ends."""
FLAT: Final = 0.05
LEAST_SAMPLES: Final = 400
"""With fewer, growth is shown but not judged: the process is still warming up."""
_WARM_UP: Final = 0.2
_SHOWN: Final = 20


@dataclass(slots=True)
class Report:
    """What came out of a run."""

    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    rss: list[int] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def halves(self) -> tuple[float, float]:
        """Resident MiB, the median of the first half and of the second, without the warming up."""
        samples = self.rss[int(len(self.rss) * _WARM_UP) :]
        middle = len(samples) // 2
        if not middle:
            return 0.0, 0.0
        first, second = samples[:middle], samples[middle:]
        return statistics.median(first) / 2**20, statistics.median(second) / 2**20


def run(settings: Settings) -> Report:
    """Stress engines until the time is up; a deadlock shows all threads and ends the process."""
    faulthandler.enable()
    report = Report()
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        path = model_file(Path(folder))
        names = backends()
        alone = {name: tokens_alone(path, name) for name in names}
        number = 0
        while number < len(names) or time.monotonic() - begin < settings.seconds:
            faulthandler.dump_traceback_later(settings.life_s + WATCHDOG_S, exit=True)
            backend = names[number % len(names)]
            life = live(settings, number, path, backend, alone[backend])
            report.counts.update(life.counts)
            report.faults += [f"life {number} ({backend}): {fault}" for fault in life.faults]
            report.rss += life.rss
            number += 1
        faulthandler.cancel_dump_traceback_later()
    report.seconds = time.monotonic() - begin
    first, second = report.halves
    if len(report.rss) >= LEAST_SAMPLES and second > first * (1.0 + FLAT):
        report.faults.append(f"memory grows: {first:.1f} MiB, then {second:.1f} MiB")
    return report


def show(settings: Settings, report: Report) -> None:
    """A table, what does not balance, and one line of JSON."""
    for name, count in sorted(report.counts.items()):
        print(f"{name:36}{count:>12,}")
    first, second = report.halves
    print(f"{'resident MiB, first half, second':36}{first:>12.1f}{second:>12.1f}")
    for fault in report.faults[:_SHOWN]:
        print(f"DOES NOT BALANCE  {fault}")
    print(
        json.dumps(
            {
                "balanced": not report.faults,
                "faults": len(report.faults),
                "seed": settings.seed,
                "seconds": round(report.seconds, 1),
                "rss_mib": [round(first, 1), round(second, 1)],
                "counts": dict(report.counts),
            }
        ),
        flush=True,
    )
