"""Is a model that does not fit refused before anything is taken?"""

from __future__ import annotations

import gc
from typing import Final

from smallmind.validation.outcomes import judged
from smallmind.validation.report import CheckStatus, Figure, Outcome
from smallmind.validation.subject import Subject
from smallmind_engine.memory import MemoryBudgetMode, process_memory
from smallmind_engine.telemetry import ReasonCode
from smallmind_engine.telemetry.errors import MemoryBudgetError

_SPARE_BYTES: Final = 16 << 20
"""What this process may take meanwhile besides the metadata, which has to be read."""


def check_memory_budget(subject: Subject) -> Outcome:
    """Half of what the weights take, in strict mode, is refused with a breakdown."""
    plan, runner = subject.model.memory_plan, subject.model.runner
    budget = max(1, plan.demand.weight_bytes // 2)
    gc.collect()  # what is given back meanwhile would hide as much that is taken
    before = process_memory()
    try:
        engine = subject.another(
            backend=runner.backend,  # another way of computing might do with less
            weights=runner.weights_mode,
            max_memory_bytes=budget,
            memory_budget_mode=MemoryBudgetMode.STRICT,
        )
    except MemoryBudgetError as error:
        refusal = error
    else:
        engine.close()
        return Outcome(
            status=CheckStatus.FAILED,
            message=f"{budget} bytes were enough for a model that takes {plan.total_bytes}",
            reason=ReasonCode.VALIDATION_FAILED,
        )
    after = process_memory()
    breakdown = refusal.details.get("wanted_by_category")
    wanted = refusal.details.get("wanted_bytes")
    wrong: list[str] = []
    if not isinstance(breakdown, dict) or not isinstance(wanted, int):
        wrong.append(f"the refusal has no breakdown: {refusal}")
    elif sum(breakdown.values()) != wanted:
        wrong.append(f"the breakdown does not add up to {wanted} bytes: {breakdown}")
    elif wanted <= budget:
        wrong.append(f"{wanted} bytes were refused although the budget is {budget}")
    risen = 0
    if before is not None and after is not None:
        risen = max(0, after.anonymous_bytes - before.anonymous_bytes)
    shares = breakdown if isinstance(breakdown, dict) else {}
    told = ", ".join(f"{name} {size}" for name, size in shares.items() if size)
    spare = _SPARE_BYTES + plan.demand.tokenizer_bytes
    return judged(
        f"refused {budget} bytes with {refusal.reason}: it takes {wanted} bytes ({told})",
        (
            Figure(name="budget", value=budget, unit="bytes"),
            Figure(name="wanted", value=wanted if isinstance(wanted, int) else 0, unit="bytes"),
            Figure(name="taken meanwhile", value=risen, unit="bytes", at_most=spare),
        ),
        wrong,
    )
