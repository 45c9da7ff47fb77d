"""Kernels that take long are compiled by a process that nobody has to wait for."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("numba")

from smallmind_engine.cache import KVType
from smallmind_engine.control import CancellationToken, WorkLimit
from smallmind_engine.kernels.numba_backend import compile_apart as apart_module
from smallmind_engine.kernels.numba_backend import compile_cache
from smallmind_engine.kernels.numba_backend.compile_apart import _RUNNING, compile_apart
from smallmind_engine.kernels.numba_backend.compile_cache import (
    compile_kernels,
    kernel_path,
    missing_kernels,
)
from smallmind_engine.kernels.numba_backend.isa import IsaTier
from smallmind_engine.kernels.numba_backend.kernel_names import STEP
from smallmind_engine.kernels.numba_backend.kernel_table import kernel_sources
from smallmind_engine.kernels.packing import LAYOUTS
from smallmind_engine.telemetry.errors import OperationCancelledError

TIER = IsaTier.PORTABLE
KINDS = (KVType.F32,)
LAYOUT = (LAYOUTS["F32"],)
SOURCES = kernel_sources(TIER, LAYOUT, KINDS)
WAIT_S = 30.0


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine on which nothing was compiled yet."""
    monkeypatch.setenv("SMALLMIND_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(compile_cache._READY, "kernels", {})
    return tmp_path


def compile_here(limit: WorkLimit, told: list[tuple[str, int, int]] | None = None) -> int:
    return compile_apart(
        SOURCES,
        tier=TIER,
        layouts=LAYOUT,
        kinds=KINDS,
        limit=limit,
        on_progress=None if told is None else lambda *step: told.append(step),
    )


def running() -> list[int]:
    return [process.pid for process, _ in _RUNNING._processes.values()]


def wait_for_the_end() -> None:
    deadline = time.monotonic() + WAIT_S
    while running() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert running() == []


def test_who_is_told_to_stop_goes_at_once_and_the_process_goes_on(empty: Path) -> None:
    token, told = CancellationToken(), []
    begun = threading.Event()

    def cancel() -> None:
        assert begun.wait(WAIT_S)
        token.cancel()

    canceller = threading.Thread(target=cancel)
    canceller.start()
    threading.Timer(0.1, begun.set).start()
    with pytest.raises(OperationCancelledError, match="compiling kernels"):
        compile_here(WorkLimit(token), told)
    canceller.join(WAIT_S)
    assert told[0] == (SOURCES[0].name, 0, len(SOURCES))
    (process,) = running()
    with pytest.raises(OperationCancelledError):
        compile_here(WorkLimit(token))
    assert running() == [process]
    _RUNNING.end_all()
    wait_for_the_end()


def test_a_process_that_dies_leaves_the_work_to_this_one(empty: Path) -> None:
    killer = threading.Timer(0.2, _RUNNING.end_all)
    killer.start()
    assert compile_here(WorkLimit()) == 0
    killer.join()
    assert len(missing_kernels(SOURCES, tier=TIER)) == len(SOURCES)


def test_quick_kernels_are_compiled_here(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = kernel_path(next(each for each in SOURCES if each.name == STEP), tier=TIER)
    assert path is not None
    path.parent.mkdir(parents=True)
    path.touch()
    monkeypatch.setattr(apart_module._RUNNING, "begin", None)
    assert compile_here(WorkLimit()) == 0


@pytest.mark.parametrize("program", [None, "", "/usr/sbin/uwsgi", "C:\\app\\host.exe"])
def test_a_program_that_is_no_interpreter_is_not_started(
    empty: Path, monkeypatch: pytest.MonkeyPatch, program: str | None
) -> None:
    monkeypatch.setattr(sys, "executable", program)
    monkeypatch.setattr(apart_module._RUNNING, "begin", None)
    assert compile_here(WorkLimit()) == 0


def test_an_interpreter_that_is_not_there_is_no_error(
    empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(empty / "python3"))
    assert compile_here(WorkLimit()) == 0
    assert running() == []


def test_without_a_place_to_keep_kernels_no_process_is_started(
    empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apart_module._RUNNING, "begin", None)
    monkeypatch.setattr(apart_module, "_may_be_made", lambda _folder: False)
    assert compile_here(WorkLimit()) == 0


@pytest.mark.slow
def test_the_next_load_finds_what_the_process_has_compiled(empty: Path) -> None:
    token = CancellationToken()
    threading.Timer(0.5, token.cancel).start()
    with pytest.raises(OperationCancelledError):
        compile_here(WorkLimit(token))
    assert compile_here(WorkLimit()) == len(SOURCES)
    kernels, report = compile_kernels(SOURCES, tier=TIER)
    assert (report.compiled, report.loaded, len(kernels)) == (0, len(SOURCES), len(SOURCES))
