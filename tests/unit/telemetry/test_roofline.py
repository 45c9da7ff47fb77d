"""Operations are added up by name, and held against what the machine can do."""

from __future__ import annotations

import pytest

from smallmind_engine.telemetry import KernelExecuted, MachineMeasured, roofline_rows
from telemetry_doubles import IDS


def ran(op: str, seconds: float, n_bytes: int, flops: int, types: str = "F32") -> KernelExecuted:
    return KernelExecuted(1, 2, IDS, "m", "numba", op, 0, types, 1, seconds, n_bytes, flops)


def measured(byte_ops: float | None = 8e9) -> MachineMeasured:
    return MachineMeasured(1, 2, IDS, "numba", 2, 1e9, 4e9, byte_ops)


def test_calls_of_a_name_add_up_and_the_longest_comes_first() -> None:
    events = [ran("a", 0.25, 100, 10), ran("b", 1.0, 1, 2), ran("a", 0.25, 300, 30)]
    b, a = roofline_rows(events)
    assert (b.op, b.calls, b.seconds) == ("b", 1, 1.0)
    assert (a.calls, a.seconds, a.read_bytes, a.flops) == (2, 0.5, 400, 40)
    assert (a.read_bytes_per_second, a.flops_per_second) == (800.0, 80.0)
    assert a.time_share + b.time_share == pytest.approx(1.0)
    assert a.read_share is a.compute_share is None


def test_shares_are_of_the_measured_ceilings() -> None:
    (row,) = roofline_rows([measured(), ran("a", 1.0, 500_000_000, 2_000_000_000)])
    assert (row.read_share, row.compute_share) == (0.5, 0.5)


def test_quantised_operations_are_held_against_products_of_bytes() -> None:
    work = ran("a", 1.0, 1, 2_000_000_000, "Q4_K+Q6_K")
    (row,) = roofline_rows([work], measured())
    assert (row.quantization, row.compute_share) == ("Q4_K+Q6_K", 0.25)
    (row,) = roofline_rows([work], measured(None))
    assert row.compute_share == 0.5


def test_types_of_all_calls_are_told_once() -> None:
    (row,) = roofline_rows([ran("a", 1, 1, 1, "Q6_K+Q4_K"), ran("a", 1, 1, 1, "Q4_K+Q8_0")])
    assert row.quantization == "Q4_K+Q6_K+Q8_0"


def test_no_time_gives_no_rate() -> None:
    (row,) = roofline_rows([ran("a", 0.0, 100, 100)])
    assert (row.read_bytes_per_second, row.flops_per_second, row.time_share) == (0.0, 0.0, 0.0)
    assert roofline_rows([]) == ()
