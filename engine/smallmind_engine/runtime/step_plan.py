"""Which requests take part in the next step, and with how many tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from smallmind_engine.kernels import ModelRunner
from smallmind_engine.runtime.admission import STALL_NS
from smallmind_engine.runtime.options import EngineOptions
from smallmind_engine.runtime.work import DECODE, PAUSED, PREFILL, RequestWork
from smallmind_engine.telemetry import now_ns

TARGET_STEP_S: Final = 0.05
"""How long a step may take when prompts are computed while other requests decode."""

_LEAST_BUDGET: Final = 16
_FIRST_BUDGET: Final = 64
_MEMORY: Final = 0.8
"""How much of a measured speed stays when the next is measured."""

Share = tuple[RequestWork, int]
"""A request and its number of tokens."""

Plan = Callable[[Sequence[RequestWork]], list[Share]]
"""Who of the admitted requests takes part in the next step."""

_Budget = Callable[[Sequence[RequestWork]], int]
"""How many tokens of prompts a step may have, given the admitted requests."""


@dataclass(slots=True)
class StepCounts:
    """What the steps of an engine did so far.

    Attributes:
        steps: of the model.
        prefill_tokens: of prompts that were computed.
        decode_tokens: that were computed one by one.
    """

    steps: int = 0
    prefill_tokens: int = 0
    decode_tokens: int = 0


class StepSpeed:
    """How long steps take, as measured so far.

    Args:
        fixed: tokens of prompts in a step while others decode; None to keep to ``TARGET_STEP_S``.
        most: tokens of a step at most.
    """

    def __init__(self, fixed: int | None, most: int) -> None:
        self._fixed = fixed
        self._most = most
        self._decode_s = 0.0
        self._token_s = 0.0

    def note(self, prefill_tokens: int, decode_tokens: int, seconds: float) -> None:
        """A step took so long."""
        if not prefill_tokens:
            self._decode_s = _smoothed(self._decode_s, seconds)
            return
        if prefill_tokens < _LEAST_BUDGET:
            return  # what a step takes at all would count for the few tokens
        rest = max(seconds - (self._decode_s if decode_tokens else 0.0), 0.0)
        self._token_s = _smoothed(self._token_s, rest / prefill_tokens)

    def budget(self, live: Sequence[RequestWork]) -> int:
        """Tokens of prompts in the next step: few while somebody decodes, or is about to.

        Args:
            live: admitted requests.
        """
        before = now_ns() - STALL_NS
        for work in live:
            if work.stage is DECODE or (
                work.stage is PAUSED and work.outlet.in_step and work.paused_ns > before
            ):
                return self._beside_others
        return self._most

    @property
    def _beside_others(self) -> int:
        if self._fixed is not None:
            return min(self._fixed, self._most)
        if not self._token_s:
            return min(_FIRST_BUDGET, self._most)
        fitting = int((TARGET_STEP_S - self._decode_s) / self._token_s)
        return min(max(fitting, _LEAST_BUDGET), self._most)


def _smoothed(before: float, now: float) -> float:
    return now if not before else _MEMORY * before + (1.0 - _MEMORY) * now


def plan_of(options: EngineOptions, runner: ModelRunner, speed: StepSpeed) -> Plan:
    """How the steps of an engine are planned."""
    if not runner.batch_invariant:
        return partial(one_by_one, budget=lambda _: runner.prefill_chunk)
    if options.max_batch_size == 1:
        return partial(one_by_one, budget=speed.budget)
    return partial(together, most_sequences=options.max_batch_size, budget=speed.budget)


def together(live: Sequence[RequestWork], *, most_sequences: int, budget: _Budget) -> list[Share]:
    """A step for several requests: all that decode, and as much of the prompts as is good.

    Args:
        live: admitted requests, the earliest first.
        most_sequences: in a step, at least 2.
        budget: of the prompts' tokens.
    """
    shares: list[Share] = []
    waiting = []
    for work in live:
        if work.stage is DECODE:
            shares.append((work, 1))
        elif work.stage is PREFILL:
            waiting.append(work)
    places = most_sequences - bool(waiting)
    if len(shares) > places:
        shares.sort(key=_last_step_of)
        del shares[places:]
    if not waiting:
        return shares
    left = budget(live)
    # The first gets half at least, so that short prompts neither wait for it nor starve it.
    others = sum(work.missing for work in waiting[1:])
    kept = min(left // 2, others)
    count = min(left - kept, waiting[0].missing)
    shares.append((waiting[0], count))
    left -= count
    for work in waiting[1:]:
        if left <= 0 or len(shares) >= most_sequences:
            break
        count = min(left, work.missing)
        shares.append((work, count))
        left -= count
    return shares


def one_by_one(live: Sequence[RequestWork], *, budget: _Budget) -> list[Share]:
    """A step for the request that has waited longest; the pieces of its prompt are always alike."""
    ready = [work for work in live if work.stage in {DECODE, PREFILL}]
    if not ready:
        return []
    work = min(ready, key=_last_step)
    return [(work, min(work.missing, budget(live)))]


def _last_step(work: RequestWork) -> int:
    return work.stepped_ns


def _last_step_of(share: Share) -> int:
    return share[0].stepped_ns
