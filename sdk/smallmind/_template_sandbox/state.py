"""Where a rendering keeps its budget: in its context, under a name no template can write."""

from __future__ import annotations

from typing import Final

from jinja2.runtime import Context

from smallmind._template_sandbox.budget import RenderBudget

BUDGET_VARIABLE: Final = "render budget"  # with a space: not an identifier


def budget_of(context: Context) -> RenderBudget:
    """The budget of the rendering that ``context`` belongs to."""
    budget = context.parent[BUDGET_VARIABLE]
    if not isinstance(budget, RenderBudget):
        raise TypeError(f"{BUDGET_VARIABLE!r} is {budget!r}, expected a RenderBudget")
    return budget
