"""What a validation found: a result for each check, with its figures and their limits."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from smallmind_engine.telemetry import ReasonCode


class CheckStatus(StrEnum):
    """How a check came out."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"  # it does not apply, or was left out; the message says which


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """Something that was measured.

    Attributes:
        name: what.
        value: how much.
        unit: of the value and of the limits.
        at_most: the largest value that passes; None for any.
        at_least: the smallest value that passes; None for any.
    """

    name: str
    value: float
    unit: str = ""
    at_most: float | None = None
    at_least: float | None = None

    @property
    def holds(self) -> bool:
        """Whether the value is within its limits; where there is one, not-a-number never is."""
        above = self.at_least is None or self.value >= self.at_least
        return above and (self.at_most is None or self.value <= self.at_most)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a check has to say.

    Attributes:
        status: how it came out.
        message: in one sentence, what was seen, what is wrong, or why it was skipped.
        figures: what was measured.
        reason: code of what is wrong, or of what stopped it; None when it passed or did not apply.
    """

    status: CheckStatus
    message: str
    figures: tuple[Figure, ...] = ()
    reason: ReasonCode | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """A check that was run, or skipped.

    Attributes:
        name: of the check.
        outcome: what it has to say.
        duration_s: how long it took.
        error_type: class of the exception that ended it; empty when it came to its own end.
    """

    name: str
    outcome: Outcome
    duration_s: float
    error_type: str = ""

    @property
    def status(self) -> CheckStatus:
        """How it came out."""
        return self.outcome.status

    @property
    def message(self) -> str:
        """What was seen, what is wrong, or why it was skipped."""
        return self.outcome.message

    @property
    def reason(self) -> ReasonCode | None:
        """Code of what is wrong."""
        return self.outcome.reason

    @property
    def figures(self) -> tuple[Figure, ...]:
        """What was measured."""
        return self.outcome.figures

    def figure(self, name: str) -> Figure:
        """The figure of that name.

        Raises:
            KeyError: there is none.
        """
        for figure in self.figures:
            if figure.name == name:
                return figure
        raise KeyError(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationReport:
    """All checks of one model.

    Attributes:
        model: its name.
        path: of its file.
        fingerprint: identifies the content of the file; empty when it did not load.
        backend: what computed.
        references: names of the golden files that it was held against.
        started: wall-clock time of the beginning, seconds since 1970.
        duration_s: of the whole.
        results: in the order in which they ran.
        interrupted: whether it was stopped before its end.
    """

    model: str
    path: str
    fingerprint: str
    backend: str
    references: tuple[str, ...]
    started: float
    duration_s: float
    results: tuple[CheckResult, ...]
    interrupted: bool = False

    def of(self, status: CheckStatus) -> tuple[CheckResult, ...]:
        """The results that came out so."""
        return tuple(result for result in self.results if result.status is status)

    def result(self, name: str) -> CheckResult:
        """The result of the check of that name.

        Raises:
            KeyError: there is none.
        """
        for result in self.results:
            if result.name == name:
                return result
        raise KeyError(name)

    @property
    def passed(self) -> bool:
        """Whether it came to its end, some check passed, and none failed."""
        failed, done = self.of(CheckStatus.FAILED), self.of(CheckStatus.PASSED)
        return bool(done) and not failed and not self.interrupted
