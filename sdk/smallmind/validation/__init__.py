"""Validation: does a model file, on a backend, do what it must, and what references say of it?

>>> from smallmind.validation import ValidationRunner
>>> ValidationRunner("model.gguf").run().passed  # doctest: +SKIP
True
"""

from smallmind.validation.checks import CHECKS, Applies, Check
from smallmind.validation.golden import Golden, load_golden
from smallmind.validation.junit import junit_xml
from smallmind.validation.options import ValidationOptions
from smallmind.validation.outcomes import judged, skipped
from smallmind.validation.report import (
    CheckResult,
    CheckStatus,
    Figure,
    Outcome,
    ValidationReport,
)
from smallmind.validation.runner import ValidationRunner
from smallmind.validation.subject import Subject

__all__ = [
    "CHECKS",
    "Applies",
    "Check",
    "CheckResult",
    "CheckStatus",
    "Figure",
    "Golden",
    "Outcome",
    "Subject",
    "ValidationOptions",
    "ValidationReport",
    "ValidationRunner",
    "judged",
    "junit_xml",
    "load_golden",
    "skipped",
]
