"""The checks of a validation: a function each, and the table of them."""

from smallmind.validation.checks.table import CHECKS, Applies, Check

__all__ = ["CHECKS", "Applies", "Check"]
