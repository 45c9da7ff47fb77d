"""Validation: does a model file, on a backend, do what a reference says it must?"""

from smallmind.validation.golden import Golden, load_golden
from smallmind.validation.report import ValidationCheck, ValidationReport
from smallmind.validation.runner import validate, validate_model

__all__ = [
    "Golden",
    "ValidationCheck",
    "ValidationReport",
    "load_golden",
    "validate",
    "validate_model",
]
