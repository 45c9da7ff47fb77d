"""What a load is said to take is what it takes: measured in processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from smallmind_engine.gguf import GgufFile
from smallmind_engine.memory import ProcessMemory, process_memory
from smallmind_engine.model import GgufWeights, transformer_spec

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(process_memory() is None, reason="the system does not tell"),
]
PROGRAM = Path(__file__).resolve().parents[1] / "memory_growth.py"
POSITIONS = 320
WITHIN = 0.10
PEAK = 1.25
MIB = 1 << 20

CASES = [
    ("smollm2", "numba"),
    ("gemma3", "numba"),
    pytest.param("smollm2", "numpy", marks=pytest.mark.slow),
    pytest.param("gemma3", "numpy", marks=pytest.mark.slow),
]
READY_CASES = [
    ("smollm2", "numba"),
    pytest.param("gemma3", "numba", marks=pytest.mark.slow),
    pytest.param("smollm2", "numpy", marks=pytest.mark.slow),
    pytest.param("gemma3", "numpy", marks=pytest.mark.slow),
]


@dataclass(frozen=True)
class Growth:
    shares: dict[str, int]
    before: ProcessMemory
    loaded: ProcessMemory
    full: ProcessMemory

    @property
    def anonymous(self) -> int:
        return self.full.anonymous_bytes - self.before.anonymous_bytes

    @property
    def resident(self) -> int:
        return self.full.resident_bytes - self.before.resident_bytes

    @property
    def file(self) -> int:
        return self.full.file_bytes - self.before.file_bytes

    def planned(self, *without: str) -> int:
        return sum(size for name, size in self.shares.items() if name not in without)

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {size / MIB:.1f}" for name, size in self.shares.items())
        return (
            f"planned {self.planned() / MIB:.1f} MiB ({parts}); grew by {self.anonymous / MIB:.1f}"
            f" anonymous, {self.file / MIB:.1f} of files"
        )


def grown(path: Path, backend: str, *options: str) -> Growth:
    if backend == "numba":
        pytest.importorskip("numba")
    done = subprocess.run(
        [sys.executable, PROGRAM, path, backend, str(POSITIONS), *options],
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(done.stdout)
    stages = (ProcessMemory(*told[name]) for name in ("before", "loaded", "full"))
    return Growth(told["shares"], *stages)


def put_kernels_on_disk(path: Path) -> None:
    """As the first load ever does, in a process of its own."""
    pytest.importorskip("numba")
    program = "import sys, smallmind; smallmind.load(sys.argv[1], exporters=()).close()"
    subprocess.run([sys.executable, "-c", program, path], check=True)


def layouts(path: Path) -> list[str]:
    """Names of the forms in which the weights of a model are packed."""
    pytest.importorskip("numba")
    from smallmind_engine.kernels.numba_backend.matrix_plan import plan_matrices

    with GgufFile.open(path) as file:
        source = GgufWeights(file)
        plans = plan_matrices(transformer_spec(file.metadata, source), source)
    return list(dict.fromkeys(plan.layout.name for plan in plans))


@pytest.mark.parametrize(("model", "backend"), CASES)
def test_the_plan_is_what_a_process_grows_by(
    request: pytest.FixtureRequest, model: str, backend: str
) -> None:
    """All of the process's own memory, from before the backend is imported.

    Kernels are on disk: the first load ever imports their compiler, which is not planned for.
    """
    path = request.getfixturevalue(f"{model}_path")
    if backend == "numba":
        put_kernels_on_disk(path)
    growth = grown(path, backend)
    assert growth.planned() == pytest.approx(growth.anonymous, rel=WITHIN), growth
    assert growth.loaded.peak_bytes <= PEAK * growth.loaded.resident_bytes, growth


@pytest.mark.parametrize(("model", "backend"), READY_CASES)
def test_nothing_but_the_plan_becomes_resident_once_the_kernels_are(
    request: pytest.FixtureRequest, model: str, backend: str
) -> None:
    """The pages of the model file too, which were read and are not needed any more."""
    path = request.getfixturevalue(f"{model}_path")
    ready = ()
    if backend == "numba":
        put_kernels_on_disk(path)
        ready = (",".join(layouts(path)),)
    growth = grown(path, backend, *ready)
    assert growth.planned("kernels") == pytest.approx(growth.resident, rel=WITHIN), growth
    assert growth.file < 0.03 * growth.resident, growth
