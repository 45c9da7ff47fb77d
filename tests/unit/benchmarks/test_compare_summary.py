"""Rows of the comparison come from its raw samples, round by round."""

from __future__ import annotations

import pytest
from compare_cases import ENGINES, LLAMA_CPP, SMALLMIND, Case
from compare_summary import (
    SpeedRow,
    Spread,
    cost_rows,
    disturbance,
    leading_agreement,
    limit,
    missing_because,
    scaling,
    single_beside,
    speed_rows,
)

from canned_report import CASES

ALL = [Case(**case) for case in CASES.values()]
SINGLE, LONG, MANY = ALL


def row_of(report: dict, group: str, case: Case) -> SpeedRow:
    rows = speed_rows(report["models"][0], ALL)
    return next(row for row in rows if (row.group, row.case) == (group, case))


def test_speeds_are_the_median_and_the_range_of_the_rounds(report: dict) -> None:
    assert row_of(report, "prefill", SINGLE).ours == Spread(64.0, 32.0, 128.0, 3)
    assert row_of(report, "decode", SINGLE).ours == Spread(32.0, 32.0, 32.0, 3)


def test_a_concurrent_speed_counts_the_tokens_of_all_sequences(report: dict) -> None:
    assert row_of(report, "concurrent", MANY).ours == Spread(256.0, 256.0, 256.0, 3)


def test_the_ratio_is_the_median_of_the_ratios_of_the_rounds(report: dict) -> None:
    assert row_of(report, "prefill", SINGLE).ratio == Spread(2.0, 2.0, 4.0, 3)


def test_a_prefill_is_set_against_sgemm(report: dict) -> None:
    row = row_of(report, "prefill", SINGLE)
    assert row.our_rate == Spread(128e6, 64e6, 256e6, 3)
    assert row.our_share == Spread(0.128, 0.064, 0.256, 3)
    assert row.their_share == Spread(0.064, 0.016, 0.128, 3)


def test_a_decode_is_set_against_the_bandwidth_and_reads_weights_once_a_step(report: dict) -> None:
    assert row_of(report, "decode", SINGLE).our_share == Spread(0.256, 0.256, 0.256, 3)
    assert row_of(report, "concurrent", MANY).our_share == Spread(0.128, 0.128, 0.128, 3)


def test_a_case_without_steps_has_no_decode_row_and_a_concurrent_one_no_prefill(
    report: dict,
) -> None:
    rows = speed_rows(report["models"][0], ALL)
    assert [(row.group, row.case) for row in rows] == [
        ("prefill", SINGLE),
        ("prefill", LONG),
        ("decode", SINGLE),
        ("concurrent", MANY),
    ]


def test_a_case_that_ran_in_fewer_rounds_is_paired_with_the_limits_of_those(report: dict) -> None:
    model = report["models"][0]
    model["samples"] = [each for each in model["samples"] if each["round"] == 2]
    model["limits"][1] = model["limits"][1] | {"read_bytes_per_s": 5e9}
    assert row_of(report, "decode", SINGLE).our_share == Spread(0.512, 0.512, 0.512, 1)


def test_without_llama_cpp_rows_have_our_side_only(report_alone: dict) -> None:
    row = row_of(report_alone, "decode", SINGLE)
    assert row.ours is not None
    assert (row.theirs, row.ratio, row.their_share) == (None, None, None)
    assert missing_because(report_alone["models"][0], LLAMA_CPP) == "No module named 'llama_cpp'"
    assert missing_because(report_alone["models"][0], SMALLMIND) is None


def test_scaling_sets_all_sequences_against_one_of_the_same_context(report: dict) -> None:
    assert single_beside(MANY, ALL) == SINGLE
    assert single_beside(SINGLE, ALL) is None
    assert single_beside(Case(16, 421, 32), ALL) is None  # decodes nothing to compare with
    for engine in ENGINES:
        assert scaling(report["models"][0], MANY, SINGLE, engine) == Spread(8.0, 8.0, 8.0, 3)


def test_cost_rows_hold_both_loads_and_the_peaks_of_memory(report_alone: dict) -> None:
    rows = {row.label: row for row in cost_rows(report_alone["models"][0])}
    assert (rows["first load"].ours, rows["second load"].ours) == (1.0, 0.25)
    assert rows["peak RSS, one sequence"].ours == 250_000_000
    assert {row.theirs for row in rows.values()} == {None}


def test_agreement_counts_the_leading_tokens_that_both_decoded(
    report: dict, report_alone: dict
) -> None:
    assert leading_agreement(report["models"][0], SINGLE) == (2, 3)
    assert leading_agreement(report_alone["models"][0], SINGLE) is None


def test_a_limit_that_was_not_measured_is_none(report: dict) -> None:
    model = report["models"][0]
    assert limit(model, "int_dot_operations_per_s") is None
    assert limit(model, "read_bytes_per_s") == Spread(10e9, 10e9, 10e9, 3)


def test_disturbance_is_the_share_of_time_in_which_the_waiting_engine_worked(report: dict) -> None:
    model = report["models"][0]
    assert disturbance(model) == 0.0
    total = sum((each["prefill_s"] or 0) + (each["decode_s"] or 0) for each in model["samples"])
    model["samples"][0]["others_cpu_s"] = total / 4
    assert disturbance(model) == pytest.approx(0.25)
    assert disturbance(model | {"samples": []}) is None
