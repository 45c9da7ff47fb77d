"""A validation as lines, one a check, and as a document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from smallmind._cli.blocks import Styled
from smallmind._cli.formatting import one_line
from smallmind._cli.json_documents import Json, plain
from smallmind.validation import CheckResult, CheckStatus, Figure, ValidationReport

_SHOWN: Final[Mapping[CheckStatus, tuple[str, str]]] = {
    CheckStatus.PASSED: ("ok  ", "green"),
    CheckStatus.FAILED: ("FAIL", "bold red"),
    CheckStatus.SKIPPED: ("skip", "dim"),
}
_NAME_WIDTH: Final = 20


def result_line(result: CheckResult) -> Styled:
    """How a check came out, how long it took, and what it has to say."""
    verb, style = _SHOWN[result.status]
    took = f"{result.duration_s:6.2f} s"
    reason = f" [{result.reason}]" if result.status is CheckStatus.FAILED else ""
    text = f"{verb}  {result.name:<{_NAME_WIDTH}}  {took}  {one_line(result.message)}{reason}"
    return Styled(text.rstrip(), style)


def verdict(report: ValidationReport) -> Styled:
    """The last line."""
    against = ", ".join(report.references) or "none"
    where = f"{report.model} on {report.backend}, references: {against}, {report.duration_s:.1f} s"
    passed, failed = report.of(CheckStatus.PASSED), report.of(CheckStatus.FAILED)
    skips = len(report.of(CheckStatus.SKIPPED))
    left_out = f", {skips} skipped" if skips else ""
    if failed:
        names = ", ".join(result.name for result in failed)
        text = f"{len(failed)} checks fail ({names}), {len(passed)} hold{left_out}: {where}"
        return Styled(text, "bold red")
    if report.interrupted:
        return Styled(f"interrupted: {len(passed)} checks hold{left_out}: {where}", "bold red")
    if not passed:
        return Styled(f"nothing was checked{left_out}: {where}", "bold red")
    return Styled(f"all {len(passed)} checks hold{left_out}: {where}", "bold green")


def report_document(report: ValidationReport) -> Json:
    """The whole report in terms of JSON."""
    return {
        "model": report.model,
        "path": report.path,
        "fingerprint": report.fingerprint,
        "backend": report.backend,
        "references": list(report.references),
        "started": report.started,
        "duration_s": report.duration_s,
        "passed": report.passed,
        "interrupted": report.interrupted,
        "checks": [_result(result) for result in report.results],
    }


def _result(result: CheckResult) -> Json:
    return {
        "name": result.name,
        "status": result.status.value,
        "reason": None if result.reason is None else result.reason.value,
        "message": result.message,
        "error_type": result.error_type or None,
        "duration_s": result.duration_s,
        "figures": [_figure(figure) for figure in result.figures],
    }


def _figure(figure: Figure) -> Json:
    return {
        "name": figure.name,
        "value": plain(figure.value),
        "unit": figure.unit,
        "at_most": figure.at_most,
        "at_least": figure.at_least,
        "holds": figure.holds,
    }
