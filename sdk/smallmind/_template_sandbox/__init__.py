"""A sandbox for chat templates: foreign programs that came inside a model file."""

from smallmind._template_sandbox.budget import LIMITS, RenderBudget, TemplateLimits
from smallmind._template_sandbox.environment import ChatEnvironment
from smallmind._template_sandbox.plain import plain_data
from smallmind._template_sandbox.state import BUDGET_VARIABLE

__all__ = [
    "BUDGET_VARIABLE",
    "LIMITS",
    "ChatEnvironment",
    "RenderBudget",
    "TemplateLimits",
    "plain_data",
]
