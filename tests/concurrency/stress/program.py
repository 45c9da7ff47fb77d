"""Runs engines under stress, one after the other, and reports."""

from __future__ import annotations

import faulthandler
import json
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from concurrency.stress.life import JOIN_S, live
from concurrency.stress.memory import Memory
from concurrency.stress.prompts import tokens_alone
from concurrency.stress.settings import Settings, backends, model_file

WATCHDOG_S: Final = 3 * JOIN_S
"""So much longer than it should a life may take, before all threads are shown and the run ends."""
_SHOWN: Final = 20


@dataclass(slots=True)
class Report:
    """What came out of a run."""

    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    memory: Memory = field(default_factory=Memory)
    seconds: float = 0.0


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
            report.memory.end_life(life.rss)
            number += 1
        faulthandler.cancel_dump_traceback_later()
    report.seconds = time.monotonic() - begin
    report.faults += report.memory.faults
    return report


def show(settings: Settings, report: Report) -> None:
    """A table, what does not balance, and one line of JSON."""
    for name, count in sorted(report.counts.items()):
        print(f"{name:36}{count:>12,}")
    for name, (first, second) in report.memory.rows.items():
        print(f"{f'{name}, MiB, by halves':36}{first:>12.1f}{second:>12.1f}")
    for fault in report.faults[:_SHOWN]:
        print(f"DOES NOT BALANCE  {fault}")
    print(
        json.dumps(
            {
                "balanced": not report.faults,
                "faults": len(report.faults),
                "seed": settings.seed,
                "seconds": round(report.seconds, 1),
                "mib": {
                    name: [round(first, 1), round(second, 1)]
                    for name, (first, second) in report.memory.rows.items()
                },
                "counts": dict(report.counts),
            }
        ),
        flush=True,
    )
