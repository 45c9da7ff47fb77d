"""A validation as lines, one a check."""

from __future__ import annotations

from smallmind._cli.blocks import Styled
from smallmind._cli.formatting import one_line
from smallmind.validation import ValidationCheck, ValidationReport


def check_line(check: ValidationCheck) -> Styled:
    """Pass or fail, the figure and its limit."""
    figures = f"{_number(check.figure)} <= {_number(check.limit)} {check.unit}".rstrip()
    verb = "ok  " if check.passed else "FAIL"
    text = f"{verb}  {check.name:<12}  {figures:<40}  {one_line(check.detail)}".rstrip()
    return Styled(text, "green" if check.passed else "bold red")


def verdict(report: ValidationReport) -> Styled:
    """The last line."""
    failed = [check.name for check in report.checks if not check.passed]
    where = f"{report.model} on {report.backend}, reference: {report.reference}"
    if report.passed:
        return Styled(f"all {len(report.checks)} checks hold: {where}", "bold green")
    if not report.checks:
        return Styled(f"nothing was checked: {where}", "bold red")
    names = ", ".join(failed)
    return Styled(
        f"{len(failed)} of {len(report.checks)} checks fail ({names}): {where}", "bold red"
    )


def _number(value: float) -> str:
    return f"{value:.4g}"
