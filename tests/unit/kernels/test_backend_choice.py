"""Which backend ``auto`` takes, and what is told when it is not the fast one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from engines import Recorder, tiny_engine
from smallmind_engine.kernels import (
    CompileReport,
    backend_names,
    choose_backend,
    get_backend,
    prepare_kernels,
    registry,
)
from smallmind_engine.kernels.numpy_backend import NumpyBackend
from smallmind_engine.telemetry import (
    ConfigError,
    Degraded,
    DegradeReason,
    LogLevel,
    MissingExtraError,
    ReasonCode,
    as_log_event,
)


class FastBackend(NumpyBackend):
    """Stands for the fast one, and computes as the other."""


def failing(error: Exception) -> Callable[[], NoReturn]:
    def make() -> NoReturn:
        raise error

    return make


NOT_INSTALLED = failing(ModuleNotFoundError("No module named 'numba'", name="numba"))
BROKEN = failing(ImportError("Numba needs NumPy 2.9 or less. Got NumPy 3.0.\nmore of it"))


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Puts something in the place of the fast backend."""

    def put(make: Callable[[], object]) -> None:
        monkeypatch.setattr(registry, "_BACKENDS", {"numpy": NumpyBackend, "numba": make})

    return put


def test_auto_is_the_fast_backend_where_it_works(fast) -> None:
    fast(FastBackend)
    choice = choose_backend("auto")
    assert isinstance(choice.backend, FastBackend)
    assert choice.fallback is None
    assert isinstance(get_backend("auto"), FastBackend)


def test_auto_tells_what_to_install_when_it_has_to_be_numpy(fast) -> None:
    fast(NOT_INSTALLED)
    choice = choose_backend("auto")
    assert isinstance(choice.backend, NumpyBackend)
    assert choice.fallback is not None
    assert "not installed" in choice.fallback
    assert 'pip install "smallmind[fast]"' in choice.fallback


def test_auto_tells_in_one_line_what_is_wrong_with_a_broken_installation(fast) -> None:
    fast(BROKEN)
    choice = choose_backend("auto")
    assert isinstance(choice.backend, NumpyBackend)
    assert choice.fallback is not None
    assert "Numba needs NumPy 2.9 or less" in choice.fallback
    assert "\n" not in choice.fallback


def test_asking_for_numba_without_it_names_the_extra(fast) -> None:
    fast(NOT_INSTALLED)
    with pytest.raises(MissingExtraError, match=r'pip install "smallmind\[fast\]"') as caught:
        choose_backend("numba")
    assert caught.value.reason is ReasonCode.EXTRA_MISSING


def test_asking_for_numba_that_is_broken_tells_why(fast) -> None:
    fast(BROKEN)
    with pytest.raises(ConfigError, match="Numba needs NumPy") as caught:
        choose_backend("numba")
    assert caught.value.reason is ReasonCode.BACKEND_UNKNOWN


@pytest.mark.parametrize("name", ["auto", "numba"])
def test_an_impossible_setting_is_never_passed_over(fast, name: str) -> None:
    """Such as ``SMALLMIND_ISA`` naming instructions that this CPU does not have."""
    fast(failing(ConfigError(ReasonCode.OPTION_INVALID, "SMALLMIND_ISA is 'z80'")))
    with pytest.raises(ConfigError, match="z80"):
        choose_backend(name)


def test_kernels_are_prepared_by_the_backend_that_has_some(monkeypatch) -> None:
    asked = []
    report = CompileReport(2, 0, 0.5, None)

    def prepare(types: list[str] | None, on_progress: object) -> CompileReport:
        asked.append((types, on_progress))
        return report

    monkeypatch.setattr(registry, "_PREPARATIONS", {"numba": lambda: prepare})
    assert prepare_kernels("auto") is report
    assert prepare_kernels("numba", ["Q4_K"], on_progress=print) is report
    assert asked == [(None, None), (["Q4_K"], print)]


def test_what_compiles_nothing_cannot_be_prepared() -> None:
    with pytest.raises(ConfigError, match="numba"):
        prepare_kernels("numpy")


def test_preparing_without_numba_names_the_extra(monkeypatch) -> None:
    monkeypatch.setattr(registry, "_PREPARATIONS", {"numba": NOT_INSTALLED})
    with pytest.raises(MissingExtraError, match=r"smallmind\[fast\]"):
        prepare_kernels("numba")


def test_preparing_with_a_broken_library_tells_why(monkeypatch) -> None:
    broken = failing(OSError("Could not find/load shared object file"))
    monkeypatch.setattr(registry, "_PREPARATIONS", {"numba": broken})
    with pytest.raises(ConfigError, match="shared object"):
        prepare_kernels("numba")


def test_the_names_begin_with_the_automatic_choice() -> None:
    assert backend_names() == ("auto", "numpy", "numba")


def test_a_fallback_of_auto_is_one_event_and_one_warning(fast, tmp_path: Path) -> None:
    fast(NOT_INSTALLED)
    recorder = Recorder()

    with tiny_engine(tmp_path, exporters=[recorder], backend="auto") as engine:
        assert engine.model.runner.backend == "numpy"

    (degraded,) = recorder.of(Degraded)
    assert (degraded.component, degraded.reason) == ("kernels", DegradeReason.BACKEND_FALLBACK)
    lines = [line for line in map(as_log_event, recorder.events) if line is not None]
    (warning,) = [line for line in lines if line.level >= LogLevel.WARN]
    assert warning.message == degraded.message
    assert "smallmind[fast]" in warning.message


def test_choosing_numpy_is_no_fallback(fast, tmp_path: Path) -> None:
    fast(NOT_INSTALLED)
    recorder = Recorder()
    with tiny_engine(tmp_path, exporters=[recorder], backend="numpy"):
        pass
    assert recorder.of(Degraded) == []


def test_a_load_without_exporters_falls_back_in_silence(fast, tmp_path: Path) -> None:
    fast(NOT_INSTALLED)
    with tiny_engine(tmp_path, backend="auto") as engine:
        assert engine.model.runner.backend == "numpy"


@pytest.mark.parametrize(
    "program",
    ["import smallmind", "from smallmind_engine.kernels import get_backend; get_backend('numpy')"],
)
def test_numba_is_imported_only_when_it_computes(program: str) -> None:
    check = f"{program}\nimport sys\nsys.exit(bool({{'numba', 'llvmlite'}} & set(sys.modules)))"
    ran = subprocess.run(
        [sys.executable, "-c", check], check=False, capture_output=True, text=True, timeout=120
    )
    assert (ran.returncode, ran.stderr) == (0, "")


def test_without_numba_everything_runs_on_numpy(tmp_path: Path) -> None:
    """In a process where the package really is not there."""
    program = (
        "import sys; sys.modules['numba'] = sys.modules['llvmlite'] = None\n"
        "from smallmind_engine.kernels import choose_backend\n"
        "choice = choose_backend('auto'); print(choice.backend.name)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True
    )
    assert ran.stdout.strip() == "numpy"


def test_preparing_kernels_without_numba_names_the_extra_in_a_process_without_it() -> None:
    program = (
        "import sys; sys.modules['numba'] = sys.modules['llvmlite'] = None\n"
        "from smallmind_engine.kernels import prepare_kernels\n"
        "try: prepare_kernels('numba')\n"
        "except Exception as error: print(type(error).__name__)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True
    )
    assert ran.stdout.strip() == "MissingExtraError"
