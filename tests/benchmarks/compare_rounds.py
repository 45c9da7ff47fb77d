"""Interleaved rounds: each case is run by one engine, then by the other, and so on.

While one engine works, the other's process sleeps. In each round the other engine goes first, so
that neither has the warmer machine. The first round warms up and is not kept.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from compare_cases import ENGINES, SMALLMIND, Case
from compare_child import HERE, Child, ChildFailedError, environment
from compared_models import model_figures, read_ahead

SETTLE_S = 0.25
"""Pause between engines: threads that spin on after their work (OpenBLAS 0.1 s) sleep then."""

LONG_CASE_S = 60.0
LONG_CASE_ROUNDS = 3
"""A case that takes both engines longer than that is run in fewer rounds."""

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to measure.

    Attributes:
        repeat: rounds that count.
        backend: of smallmind.
        quick: measure the limits less well.
    """

    threads: int
    repeat: int
    backend: str
    quick: bool
    cases: Sequence[Case]

    def as_json(self) -> dict[str, object]:
        """For the report."""
        return asdict(self) | {
            "cases": {case.name: case.as_json() for case in self.cases},
            "settle_s": SETTLE_S,
        }

    @property
    def capacity(self) -> int:
        """Tokens that a single sequence comes to."""
        return max((case.capacity for case in self.cases if case.sequences == 1), default=1)


def compare_model(name: str, path: Path, settings: Settings, tell: Tell) -> dict:
    """Measure a model; answers its part of the report, raw samples and all."""
    read_ahead(path)
    engines: dict[str, dict] = {}
    with ExitStack() as stack:
        children: list[Child] = []
        for engine in ENGINES:
            tell(f"{name}: loading with {engine}")
            try:
                # A process of its own: what the first load leaves in memory does not count.
                first = _load_once(engine, path, settings)
                kept = []
                if engine == SMALLMIND:
                    _load_once(engine, path, settings, keep_packed=True)
                    kept = [_load_once(engine, path, settings, keep_packed=True)]
                if "missing" not in first:
                    child = stack.enter_context(Child(engine, settings.threads))
                    second = _load(child, path, settings)
            except ChildFailedError as error:
                if engine == SMALLMIND:
                    raise
                first = {"missing": str(error)}
            if "missing" in first:
                engines[engine] = {"missing": first["missing"]}
                continue
            engines[engine] = {"about": second["about"], "loads": [first, second, *kept]}
            children.append(child)
        limits, samples = _rounds(name, children, settings, tell)
        for child in children:
            child.ask("close")
    for engine, facts in engines.items():
        if "missing" not in facts:
            own = [sample for sample in samples if sample["engine"] == engine]
            facts["memory"] = _memory(facts["loads"][1], own)
    return {
        "name": name,
        "file": path.name,
        **asdict(model_figures(path)),
        "engines": engines,
        "limits": limits,
        "samples": [sample for sample in samples if sample["round"] > 0],
    }


def _load_once(engine: str, path: Path, settings: Settings, *, keep_packed: bool = False) -> dict:
    with Child(engine, settings.threads) as once:
        return _load(once, path, settings, keep_packed=keep_packed)


def _load(child: Child, path: Path, settings: Settings, *, keep_packed: bool = False) -> dict:
    time.sleep(SETTLE_S)
    return child.ask(
        "load",
        path=str(path),
        threads=settings.threads,
        backend=settings.backend,
        capacity=settings.capacity,
        keep_packed=keep_packed,
    )


def _rounds(
    name: str, children: list[Child], settings: Settings, tell: Tell
) -> tuple[list[dict], list[dict]]:
    """Limits of each round that counts, and samples of all; round 0 is the warm-up."""
    limits: list[dict] = []
    samples: list[dict] = []
    lasts: dict[Case, float] = {}
    for number in range(settings.repeat + 1):
        tell(f"{name}: " + (f"round {number} of {settings.repeat}" if number else "warm-up"))
        if number:
            limits.append(_limits(settings))
        order = children[::-1] if number % 2 else children
        for case in settings.cases:
            if number > LONG_CASE_ROUNDS and lasts[case] > LONG_CASE_S:
                continue
            begin = time.perf_counter()
            for child in order:
                reply = _measure(child, children, case)
                samples.append(
                    {"round": number, "case": case.name, "engine": child.engine, **reply}
                )
            lasts[case] = time.perf_counter() - begin
    return limits, samples


def _measure(child: Child, children: list[Child], case: Case) -> dict:
    """Have one engine run a case; the reply also tells what the others took meanwhile."""
    time.sleep(SETTLE_S)
    before = [other.cpu_s() for other in children if other is not child]
    reply = child.ask("measure", case=case.as_json())
    after = [other.cpu_s() for other in children if other is not child]
    taken = [
        end - begin
        for begin, end in zip(before, after, strict=True)
        if begin is not None and end is not None
    ]
    return reply | {"others_cpu_s": sum(taken)}


def _limits(settings: Settings) -> dict:
    """Measured by a process that ends: its buffers and threads are gone when the engines run."""
    time.sleep(SETTLE_S)
    command = [sys.executable, HERE / "machine_limits.py", "--threads", str(settings.threads)]
    if settings.quick:
        command.append("--quick")
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env=environment(settings.threads)
    )
    return json.loads(done.stdout)


def _memory(load: dict, samples: list[dict]) -> dict[str, int | None]:
    """Peaks of resident memory at three points of the measuring process's life."""
    warm_up = [sample for sample in samples if sample["round"] == 0]
    single = [sample for sample in warm_up if sample["case"].startswith("1x")]
    return {
        "loaded": load["peak_rss_bytes"],
        "one_sequence": single[-1]["peak_rss_bytes"] if single else None,
        "all_cases": samples[-1]["peak_rss_bytes"] if samples else None,
    }
