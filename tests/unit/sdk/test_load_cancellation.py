"""A load stops wherever it is told to, says what it was at, and leaves nothing behind."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from gguf import GGMLQuantizationType

import smallmind
from engines import Recorder
from smallmind import CancellationToken
from smallmind_engine.memory import BudgetEnforcer
from smallmind_engine.telemetry import ModelLoadEnded, ReasonCode, RequestStatus
from smallmind_engine.telemetry.errors import OperationCancelledError
from tiny_models import TinyModel, write_tiny_model

BACKENDS = {
    "numpy": {"dequantising", "dequantising weights"},
    "numba": {"compiling kernels", "packing weights"},
}
COMMON = {
    "reading metadata",
    "reading the tensor table",
    "finding a backend",
    "planning the memory",
    "building the tokenizer",
    "taking the fingerprint of the model file",
}


class CancelledAtLook(CancellationToken):
    """Is cancelled when it is looked at for the so-manieth time."""

    __slots__ = ("left",)

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.left = looks

    @property
    def is_cancelled(self) -> bool:
        self.left -= 1
        return self.left < 0


@pytest.fixture
def budgets(monkeypatch: pytest.MonkeyPatch) -> list[BudgetEnforcer]:
    made: list[BudgetEnforcer] = []

    class Kept(BudgetEnforcer):
        def __init__(self, *args: object) -> None:
            super().__init__(*args)  # type: ignore[arg-type]
            made.append(self)

    monkeypatch.setattr("smallmind._load.BudgetEnforcer", Kept)
    return made


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_tiny_model(
        tmp_path / "tiny.gguf", TinyModel("llama", qtype=GGMLQuantizationType.Q8_0)
    )


def threads() -> set[str]:
    """Names of threads that are not about to end."""
    for thread in threading.enumerate():
        if thread.name.startswith("smallmind: ") or thread.name.endswith("(_drop_all)"):
            thread.join(10)
    return {thread.name for thread in threading.enumerate()}


def mapped(path: Path) -> bool:
    maps = Path("/proc/self/maps")
    return maps.exists() and str(path) in maps.read_text()


def open_files() -> Iterator[str]:
    folder = Path("/proc/self/fd")
    if folder.exists():
        yield from (str(each.readlink()) for each in list(folder.iterdir()) if each.exists())


@pytest.mark.parametrize("backend", list(BACKENDS))
def test_a_load_stops_at_each_look_at_its_limit_and_leaves_nothing(
    path: Path, budgets: list[BudgetEnforcer], backend: str
) -> None:
    if backend == "numba":
        pytest.importorskip("numba")
    # What is made once in a process is there already.
    smallmind.load(path, exporters=(), backend=backend).close()
    before, files = threads(), sorted(open_files())
    works: set[str] = set()
    reasons: set[ReasonCode] = set()
    for looks in range(1000):
        try:
            smallmind.load(
                path, exporters=(), backend=backend, cancellation=CancelledAtLook(looks)
            ).close()
        except OperationCancelledError as error:
            reasons.add(error.reason)
            works.add(str(error.details["work"]))
        else:
            break
    assert looks > 20
    assert reasons == {ReasonCode.CANCELLED_BY_CALLER}
    assert works >= COMMON | BACKENDS[backend]
    gc.collect()
    assert not mapped(path)
    assert sorted(open_files()) == files
    assert threads() <= before
    assert {budget.taken_bytes for budget in budgets} == {0}


@pytest.mark.parametrize("phase", ["read", "weights"])
@pytest.mark.parametrize("backend", list(BACKENDS))
def test_cancelling_in_a_progress_callback_stops_that_phase(
    path: Path, backend: str, phase: str
) -> None:
    if backend == "numba":
        pytest.importorskip("numba")
    token, recorder = CancellationToken(), Recorder()
    told: list[str] = []

    def progress(name: str, _done: int, _total: int) -> None:
        told.append(name)
        if name == phase:
            token.cancel()

    if backend == "numba" and phase == "weights":
        pytest.skip("a tiny matrix is packed in one tile: there is nothing left to stop")
    with pytest.raises(OperationCancelledError):
        smallmind.load(
            path,
            exporters=[recorder],
            backend=backend,
            cancellation=token,
            on_progress=progress,
        )
    assert told[-1] == phase
    assert told.count(phase) == 1
    (ended,) = recorder.of(ModelLoadEnded)
    assert (ended.status, ended.reason) == (
        RequestStatus.CANCELLED,
        ReasonCode.CANCELLED_BY_CALLER,
    )


def test_a_load_that_is_out_of_time_says_so(path: Path) -> None:
    with pytest.raises(OperationCancelledError) as caught:
        smallmind.load(path, exporters=(), timeout=1e-9)
    assert caught.value.reason is ReasonCode.CANCELLED_BY_TIMEOUT
    smallmind.load(path, exporters=(), timeout=60.0).close()


def test_a_load_after_a_cancelled_one_is_whole(path: Path) -> None:
    expected = None
    for looks in (3, 10_000, 15, 10_000):
        try:
            engine = smallmind.load(path, exporters=(), cancellation=CancelledAtLook(looks))
        except OperationCancelledError:
            continue
        with engine:
            found = engine.generate([3, 5], max_tokens=5, temperature=0.0).token_ids
        assert expected in {None, found}
        expected = found
    assert expected is not None
