"""Kernels are compiled once per machine, and a cache in whatever state does no harm."""

from __future__ import annotations

import ctypes
import hashlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("numba")

from numba import njit

import toy_kernels
from smallmind_engine.control import CancellationToken, WorkLimit
from smallmind_engine.kernels.numba_backend import compile_cache
from smallmind_engine.kernels.numba_backend.cache_location import (
    cache_key,
    remove_unused,
)
from smallmind_engine.kernels.numba_backend.compile_cache import KernelSource, compile_kernels
from smallmind_engine.kernels.numba_backend.kernel_files import (
    KernelCode,
    read_kernel,
    write_kernel,
)
from smallmind_engine.telemetry import OperationCancelledError, ReasonCode

TESTS = Path(toy_kernels.__file__).parent


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("SMALLMIND_CACHE_DIR", str(folder))
    forget_all(monkeypatch)
    return folder


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Sources that no other test has, so that symbols in this process do not meet."""
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "kernels.py").write_text(f"# {tmp_path}\n")
    return folder


def forget_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory as in a new process."""
    monkeypatch.setattr(compile_cache._READY, "kernels", {})
    monkeypatch.setattr(compile_cache._READY, "problems", {})


def start(package: Path, *factors: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, toy_kernels.__file__, str(package), *map(str, factors)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
    )


def answer(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out.strip()


def test_a_second_process_compiles_nothing(package: Path, cache: Path) -> None:
    report = toy_kernels.check(package, 3)

    assert (report.compiled, report.cached, report.problem) == (2, 0, None)
    assert report.directory == cache / "kernels" / cache_key(toy_kernels.TIER, package)
    assert answer(start(package, 3)) == "0 compiled, 2 loaded"


def test_siblings_of_a_factory_from_different_processes_are_not_confused(package: Path) -> None:
    """One place in one file, one bytecode: only our names tell them apart."""
    assert answer(start(package, 3)) == "2 compiled, 0 loaded"
    assert answer(start(package, 5)) == "2 compiled, 0 loaded"
    assert answer(start(package, 3, 5, 7)) == "2 compiled, 4 loaded"


def test_siblings_of_a_factory_have_symbols_of_their_own(package: Path, cache: Path) -> None:
    compile_kernels(toy_kernels.sources(3, 5), tier="toy", package=package)

    codes = [read_kernel(file) for file in (cache / "kernels").rglob("times_*.kernel")]

    assert len({code.symbol for code in codes if code is not None}) == 2


def test_kernels_on_disk_do_without_numba(package: Path) -> None:
    toy_kernels.check(package, 3)
    program = (
        "import sys; sys.modules['numba'] = None\n"
        "import toy_kernels; from pathlib import Path\n"
        "report = toy_kernels.check(Path(sys.argv[1]), 3)\n"
        "print(report.loaded, [name for name in sys.modules if name.startswith('numba.')])\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, package],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
    )
    assert ran.stdout == "2 []\n"


def test_processes_that_compile_at_once_leave_whole_files(
    package: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = [start(package, 3, 5) for _ in range(2)]

    for process in both:
        assert answer(process).endswith("loaded")  # how many of each depends on who was first
    assert toy_kernels.check(package, 3, 5).loaded == 4
    names = [path.suffix for path in (cache / "kernels").rglob("*.*")]
    assert names == [".kernel"] * 4


def test_a_second_call_takes_the_kernels_from_memory(package: Path) -> None:
    toy_kernels.check(package, 3)

    report = toy_kernels.check(package, 3)

    assert (report.compiled, report.cached, report.loaded) == (0, 2, 0)


def test_threads_that_ask_at_once_share_one_compilation(package: Path) -> None:
    reports = []
    threads = [
        threading.Thread(target=lambda: reports.append(toy_kernels.check(package, 3)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(report.compiled for report in reports) == 2
    assert sum(report.cached for report in reports) == 4


@pytest.mark.parametrize(
    "damage", ["truncated", "flipped", "empty", "foreign", "no header", "symbol"]
)
def test_a_damaged_file_is_compiled_anew(
    package: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    source = toy_kernels.times_kernel(3)
    compile_kernels([source], tier=toy_kernels.TIER, package=package)
    (file,) = (cache / "kernels").rglob("*.kernel")
    whole = file.read_bytes()
    code = read_kernel(file)
    assert code is not None

    def signed(payload: bytes) -> bytes:
        return whole[: whole.index(b"\n") + 1] + hashlib.sha256(payload).digest() + payload

    if damage == "symbol":
        needs = ("of_a_library_that_is_gone",)
        write_kernel(file, KernelCode("not_in_the_file", needs, code.machine_code))
    else:
        file.write_bytes(
            {
                "truncated": whole[:-100],
                "flipped": whole[:-100] + bytes([whole[-100] ^ 1]) + whole[-99:],
                "empty": b"",
                "foreign": b"x" * len(whole),
                "no header": signed(b"[]\n" + code.machine_code),
            }[damage]
        )
    forget_all(monkeypatch)

    kernels, report = compile_kernels([source], tier=toy_kernels.TIER, package=package)

    assert (report.compiled, report.problem) == (1, None)
    assert kernels["times_3"].call(7) == 21
    forget_all(monkeypatch)
    assert compile_kernels([source], tier=toy_kernels.TIER, package=package)[1].loaded == 1


def test_without_a_writable_folder_kernels_live_for_the_process(package: Path, cache: Path) -> None:
    cache.write_text("a file where the folder should be")

    first = toy_kernels.check(package, 3)
    second = toy_kernels.check(package, 3)

    assert (first.compiled, first.directory) == (2, None)
    assert first.problem is not None
    assert "cannot be written" in first.problem
    assert (second.compiled, second.cached, second.directory) == (0, 2, None)
    assert second.problem == first.problem


def test_a_folder_that_only_can_be_read_serves_all_the_same(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container whose image was warmed up, and whose file system is read-only."""
    toy_kernels.check(package, 3)
    forget_all(monkeypatch)

    def refuse(*_arguments: object, **_options: object) -> None:
        raise OSError(30, "Read-only file system")

    for name in ("mkdir", "write_bytes", "unlink"):
        monkeypatch.setattr(Path, name, refuse)
    report = toy_kernels.check(package, 3)

    assert (report.loaded, report.problem) == (2, None)
    assert report.directory is not None


def test_sources_that_cannot_be_read_mean_no_cache(tmp_path: Path, cache: Path) -> None:
    report = toy_kernels.check(tmp_path / "nowhere", 3)

    assert report.directory is None
    assert report.problem is not None
    assert "sources" in report.problem
    assert not cache.exists()


def test_no_home_directory_means_no_cache(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compile_cache, "cache_root", lambda: None)

    report = toy_kernels.check(package, 3)

    assert report.directory is None
    assert report.problem is not None
    assert "SMALLMIND_CACHE_DIR" in report.problem


def test_kernels_with_addresses_of_the_process_are_not_kept(package: Path, cache: Path) -> None:
    c_labs = ctypes.CDLL(None).labs
    c_labs.argtypes, c_labs.restype = [ctypes.c_int64], ctypes.c_int64

    def absolute(value: int) -> int:
        return c_labs(value)

    source = KernelSource("absolute", lambda: absolute, arguments=1, returns=True)
    kernels, report = compile_kernels([source], tier=toy_kernels.TIER, package=package)

    assert kernels["absolute"].call(-3) == 3
    assert report.problem is not None
    assert "addresses" in report.problem
    assert not list(cache.rglob("*.kernel"))


def test_cancellation_stops_between_two_kernels(package: Path) -> None:
    token = CancellationToken()
    told = []

    def cancel_at_the_second(name: str, done: int, total: int) -> None:
        told.append((name, done, total))
        if done == 1:
            token.cancel()

    with pytest.raises(OperationCancelledError) as caught:
        compile_kernels(
            toy_kernels.sources(3, 5),
            tier=toy_kernels.TIER,
            limit=WorkLimit(token),
            on_progress=cancel_at_the_second,
            package=package,
        )

    assert caught.value.reason is ReasonCode.CANCELLED_BY_CALLER
    assert told == [("times_3", 0, 4), ("plus_3", 1, 4)]
    assert toy_kernels.check(package, 3).compiled == 1


def test_progress_ends_with_all_of_them_done(package: Path) -> None:
    told = []
    compile_kernels(
        toy_kernels.sources(3),
        tier=toy_kernels.TIER,
        on_progress=lambda *step: told.append(step),
        package=package,
    )
    assert told == [("times_3", 0, 2), ("plus_3", 1, 2), ("plus_3", 2, 2)]


def test_no_progress_is_told_of_what_takes_no_time(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy_kernels.check(package, 3)
    forget_all(monkeypatch)
    told = []

    def ready(*factors: int) -> None:
        compile_kernels(
            toy_kernels.sources(*factors),
            tier=toy_kernels.TIER,
            on_progress=lambda *step: told.append(step),
            package=package,
        )

    ready(3)  # from disk
    ready(3)  # from memory
    assert told == []
    ready(3, 5)
    assert [name for name, _, _ in told] == ["times_5", "plus_5", "plus_5"]


def test_nothing_to_compile_is_a_report_of_nothing(package: Path) -> None:
    kernels, report = compile_kernels([], tier=toy_kernels.TIER, package=package)
    assert (dict(kernels), report.compiled, report.cached) == ({}, 0, 0)


def test_a_kernel_may_call_compiled_functions(package: Path) -> None:
    @njit
    def twice(value: int) -> int:
        return 2 * value

    def four_times(value: int) -> int:
        return twice(twice(value))

    source = KernelSource("four_times", lambda: four_times, arguments=1, returns=True)
    kernels, _ = compile_kernels([source], tier=toy_kernels.TIER, package=package)

    assert kernels["four_times"].call(3) == 12


def test_keys_that_nobody_used_for_a_month_are_removed(package: Path, cache: Path) -> None:
    kernels = cache / "kernels"
    old, recent, foreign = kernels / ("0" * 24), kernels / ("1" * 24), kernels / "notes"
    month_ago = time.time() - 31 * 24 * 3600
    for folder in (old, recent, foreign):
        folder.mkdir(parents=True)
        (folder / "x.kernel").touch()
        if folder is not recent:
            os.utime(folder, (month_ago, month_ago))

    toy_kernels.check(package, 3)

    assert not old.exists()
    assert recent.exists()
    assert foreign.exists()


def test_a_key_in_use_stays_young(
    package: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = toy_kernels.check(package, 3).directory
    assert directory is not None
    week_ago = time.time() - 7 * 24 * 3600
    os.utime(directory, (week_ago, week_ago))
    forget_all(monkeypatch)

    toy_kernels.check(package, 3)

    assert directory.stat().st_mtime > week_ago + 3600
    assert remove_unused(directory.parent, "another", unused_s=3600) == []
