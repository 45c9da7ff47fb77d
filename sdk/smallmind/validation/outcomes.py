"""How checks say what came out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from smallmind.validation.report import CheckStatus, Figure, Outcome
from smallmind_engine.telemetry import ReasonCode


def judged(message: str, figures: Iterable[Figure] = (), wrong: Sequence[str] = ()) -> Outcome:
    """Passed when nothing is wrong and every figure is within its limits, else failed.

    Args:
        message: what was seen.
        figures: what was measured.
        wrong: what is wrong, the most telling first.
    """
    measured = tuple(figures)
    beyond = [said(figure) for figure in measured if not figure.holds]
    trouble = [*wrong[:1], *beyond]
    if trouble:
        return Outcome(
            status=CheckStatus.FAILED,
            message="; ".join(trouble),
            figures=measured,
            reason=ReasonCode.VALIDATION_FAILED,
        )
    return Outcome(status=CheckStatus.PASSED, message=message, figures=measured)


def skipped(why: str, reason: ReasonCode | None = None) -> Outcome:
    """The check does not apply, or cannot be made."""
    return Outcome(status=CheckStatus.SKIPPED, message=why, reason=reason)


def said(figure: Figure) -> str:
    """A figure and its limit, in words.

    >>> said(Figure(name="drift", value=0.25, unit="nats", at_most=0.1))
    'drift 0.25 nats, at most 0.1'
    """
    text = f"{figure.name} {figure.value:.4g} {figure.unit}".rstrip()
    if figure.at_most is not None:
        text += f", at most {figure.at_most:.4g}"
    if figure.at_least is not None:
        text += f", at least {figure.at_least:.4g}"
    return text
