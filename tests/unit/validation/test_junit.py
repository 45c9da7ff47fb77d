"""Reports as JUnit XML, read by a parser that others wrote."""

from __future__ import annotations

import pytest
from junitparser import Error, Failure, JUnitXml, Skipped

from smallmind.validation import (
    CheckResult,
    CheckStatus,
    Figure,
    Outcome,
    ValidationReport,
    judged,
    junit_xml,
    skipped,
)
from smallmind_engine.telemetry import ReasonCode

RESULTS = (
    CheckResult(
        name="good",
        outcome=judged("3 of 3", [Figure(name="rows", value=3, at_most=4, unit="rows")]),
        duration_s=0.25,
    ),
    CheckResult(
        name="bad",
        outcome=judged("", [Figure(name="drift", value=0.5, at_most=0.1)], ["<it> & 'differs'"]),
        duration_s=1.0,
    ),
    CheckResult(
        name="raised",
        outcome=Outcome(
            status=CheckStatus.FAILED, message="\x00 at \ud800", reason=ReasonCode.NON_FINITE_LOGITS
        ),
        duration_s=0.5,
        error_type="InferenceError",
    ),
    CheckResult(name="left", outcome=skipped("no golden file"), duration_s=0.0),
)


@pytest.fixture
def suite():
    report = ValidationReport(
        model="tiny\x1b[0m",
        path="/models/tiny.gguf",
        fingerprint="f00d",
        backend="numpy",
        references=("llama.cpp",),
        started=1_700_000_000.0,
        duration_s=2.0,
        results=RESULTS,
    )
    (suite,) = JUnitXml.fromstring(junit_xml(report).encode())
    return suite


def test_counts_and_times_are_those_of_the_report(suite):
    assert (suite.tests, suite.failures, suite.errors, suite.skipped) == (4, 1, 1, 1)
    assert suite.time == 2.0
    assert suite.timestamp == "2023-11-14T22:13:20"
    assert {each.name: each.value for each in suite.properties()} == {
        "model": "tiny\ufffd[0m",
        "path": "/models/tiny.gguf",
        "fingerprint": "f00d",
        "backend": "numpy",
        "references": "llama.cpp",
        "interrupted": "false",
    }


def test_each_check_is_a_case_with_its_outcome(suite):
    good, bad, raised, left = suite
    assert (good.name, good.time, good.result) == ("good", 0.25, [])
    assert good.system_out == "3 of 3\nrows 3 rows, at most 4"
    (failure,) = bad.result
    assert isinstance(failure, Failure)
    assert (failure.type, failure.message) == (
        "VALIDATION_FAILED",
        "<it> & 'differs'; drift 0.5, at most 0.1",
    )
    (error,) = raised.result
    assert isinstance(error, Error)
    assert (error.type, error.message) == ("InferenceError", "\ufffd at \ufffd")
    assert error.text.endswith("[NON_FINITE_LOGITS]")
    (skip,) = left.result
    assert isinstance(skip, Skipped)
    assert skip.message == "no golden file"


def test_a_recount_by_the_parser_changes_nothing(suite):
    before = (suite.tests, suite.failures, suite.errors, suite.skipped)
    suite.update_statistics()
    assert (suite.tests, suite.failures, suite.errors, suite.skipped) == before


def test_a_real_report_is_read_as_well(validated):
    (suite,) = JUnitXml.fromstring(junit_xml(validated("kv-cache", "backends")).encode())
    assert [case.name for case in suite] == ["load", "kv-cache", "backends"]
    assert all(case.result == [] for case in suite)
