"""The machine's ceilings are measured once, with what a backend computes with."""

from __future__ import annotations

import pytest

from smallmind_engine.kernels import Ceilings, ceilings
from smallmind_engine.kernels.ceilings import MeasuredCeilings, numpy_ceilings


@pytest.fixture(autouse=True)
def small_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceilings, "_READ_BYTES", 1 << 16)
    monkeypatch.setattr(ceilings, "_SGEMM_SIZE", 16)


def test_numpy_reads_and_multiplies_floats() -> None:
    measured = numpy_ceilings(2)
    assert measured.threads == 2
    assert measured.read_bytes_per_second > 0
    assert measured.flops_per_second > 0
    assert measured.byte_ops_per_second is None


def test_compiled_kernels_of_every_tier_multiply_bytes_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("numba")
    from smallmind_engine.kernels.numba_backend import ceilings as compiled
    from smallmind_engine.kernels.numba_backend.isa import host_features, usable_tiers

    monkeypatch.setattr(compiled, "_STEPS", 100)
    monkeypatch.setattr(compiled, "_STEPS_PORTABLE", 100)
    monkeypatch.setattr(compiled, "MEASURED", MeasuredCeilings())
    for tier in usable_tiers(host_features()):
        measured = compiled.machine_ceilings(tier, 2)
        assert measured.read_bytes_per_second > 0
        assert measured.byte_ops_per_second is not None
        assert measured.byte_ops_per_second > 0
        assert compiled.machine_ceilings(tier, 2) is measured


def test_the_loop_over_bytes_adds_all_products() -> None:
    np = pytest.importorskip("numpy")
    pytest.importorskip("numba")
    from smallmind_engine.kernels.numba_backend import ceilings as compiled
    from smallmind_engine.kernels.numba_backend.compile_cache import compile_kernels
    from smallmind_engine.kernels.numba_backend.isa import choose_tier

    tier = choose_tier()
    kernels, _ = compile_kernels(compiled.ceiling_sources(tier), tier=tier)
    weights = np.ones(5000, np.uint8)
    begin = -weights.ctypes.data % 64
    inputs = np.full(128, 1, np.int8)
    inputs[::4] = 3
    answer = kernels["ceiling_dot"].call(weights.ctypes.data + begin, inputs.ctypes.data, 10)
    assert answer == 10 * 128 + 10 * 2 * 32  # the first row: 128 bytes a step, a quarter are 3
    words = np.arange(100)
    table = np.array([words.ctypes.data, len(words)])
    assert kernels["ceiling_read"].call(table.ctypes.data, 0) == 4950


def test_what_is_known_is_not_measured_again() -> None:
    calls: list[int] = []

    def measure(threads: int) -> Ceilings:
        calls.append(threads)
        return Ceilings(threads, 1.0, 2.0, None)

    known = MeasuredCeilings()
    first = known.get("a", 2, measure)
    assert known.get("a", 2, measure) is first
    assert known.get("a", 1, measure).threads == 1
    assert known.get("b", 2, measure) is not first
    assert calls == [2, 1, 2]
