"""The machine's limits are measured, or the reason is told why not."""

from __future__ import annotations

import sys
from dataclasses import FrozenInstanceError

import int_dot_peak
import machine_limits
import pytest
from machine_limits import measure_limits


@pytest.fixture(autouse=True)
def small_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_limits, "READ_BYTES", 1 << 20)
    monkeypatch.setattr(machine_limits, "SGEMM_SHAPES", ((16, 32, 8), (8, 8, 8)))
    monkeypatch.setattr(int_dot_peak, "STEPS", 1000)


def test_all_limits_are_measured_or_told_missing() -> None:
    limits = measure_limits(2, quick=True)
    assert limits.threads == 2
    assert limits.read_bytes_per_s > 0
    assert limits.sgemm_flops_per_s > 0
    assert limits.sgemm_shape in machine_limits.SGEMM_SHAPES
    assert (limits.int_dot_operations_per_s is None) == (limits.int_dot_missing is not None)
    with pytest.raises(FrozenInstanceError):
        limits.threads = 1  # type: ignore[misc]


def test_without_numba_numpy_reads_and_8_bit_products_are_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in ("numba", "llvmlite"):
        monkeypatch.setitem(sys.modules, module, None)
    limits = measure_limits(1, quick=True)
    assert limits.read_method == "numpy"
    assert limits.read_bytes_per_s > 0
    assert limits.int_dot_missing == "numba is not installed"


def test_a_processor_without_the_instruction_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    binding = pytest.importorskip("llvmlite.binding")
    monkeypatch.setattr(binding, "get_host_cpu_features", dict)
    assert "neither" in str(int_dot_peak.unavailable_because())
