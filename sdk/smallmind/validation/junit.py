"""A report in JUnit's XML, which build servers read."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final
from xml.etree import ElementTree as ET

from smallmind.validation.outcomes import said
from smallmind.validation.report import CheckResult, CheckStatus, ValidationReport

_SUITE: Final = "smallmind.validate"

# Control characters, lone surrogates and two others have no place in XML 1.0, escaped or not.
_IMPOSSIBLE: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit_xml(report: ValidationReport) -> str:
    """The report as a document: a suite for the model, with a case for each check.

    A check that does not hold is a failure, one that raised an error, and why one was skipped is
    told. Figures and their limits are in the output of their case.
    """
    errors = [result for result in report.results if result.error_type]
    counts: dict[str, str] = {
        "tests": str(len(report.results)),
        "failures": str(len(report.of(CheckStatus.FAILED)) - len(errors)),
        "errors": str(len(errors)),
        "skipped": str(len(report.of(CheckStatus.SKIPPED))),
        "time": f"{report.duration_s:.3f}",
    }
    suites = ET.Element("testsuites", {"name": _SUITE, **counts})
    started = datetime.fromtimestamp(report.started, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    name = _clean(f"{_SUITE}.{report.model}")
    suite = ET.SubElement(suites, "testsuite", {"name": name, "timestamp": started, **counts})
    properties = ET.SubElement(suite, "properties")
    for key, value in (
        ("model", report.model),
        ("path", report.path),
        ("fingerprint", report.fingerprint),
        ("backend", report.backend),
        ("references", ", ".join(report.references) or "none"),
        ("interrupted", str(report.interrupted).lower()),
    ):
        ET.SubElement(properties, "property", name=key, value=_clean(value))
    for result in report.results:
        _add_case(suite, report, result)
    ET.indent(suites)
    return ET.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def _add_case(suite: ET.Element, report: ValidationReport, result: CheckResult) -> None:
    case = ET.SubElement(
        suite,
        "testcase",
        classname=_clean(f"{report.model}.{report.backend}"),
        name=result.name,
        time=f"{result.duration_s:.3f}",
    )
    message = _clean(result.message)
    reason = "" if result.reason is None else result.reason.value
    if result.status is CheckStatus.SKIPPED:
        ET.SubElement(case, "skipped", message=message)
    elif result.status is CheckStatus.FAILED:
        kind = "error" if result.error_type else "failure"
        trouble = ET.SubElement(case, kind, type=result.error_type or reason, message=message)
        trouble.text = f"{message} [{reason}]"
    lines = [said(figure) for figure in result.figures]
    if result.status is CheckStatus.PASSED:
        lines.insert(0, message)
    if lines:
        ET.SubElement(case, "system-out").text = _clean("\n".join(lines))


def _clean(text: str) -> str:
    return _IMPOSSIBLE.sub("\ufffd", text)
