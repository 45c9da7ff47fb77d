"""What a validation found: one row a check, each with its figure and its limit."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ValidationCheck:
    """One check.

    Attributes:
        name: what was looked at.
        figure: what was measured.
        limit: the largest figure that passes.
        unit: of both.
        detail: how much was compared, or the first thing that was wrong.
    """

    name: str
    figure: float
    limit: float
    unit: str
    detail: str

    @property
    def passed(self) -> bool:
        """Whether the figure is within its limit; not-a-number never is."""
        return self.figure <= self.limit


@dataclass(frozen=True, slots=True)
class ValidationReport:
    """All checks of one model.

    Attributes:
        model: its name.
        backend: what computed.
        reference: what it was held against.
        checks: in the order in which they ran.
    """

    model: str
    backend: str
    reference: str
    checks: tuple[ValidationCheck, ...]

    @property
    def passed(self) -> bool:
        """Whether there are checks and all of them passed."""
        return bool(self.checks) and all(check.passed for check in self.checks)
