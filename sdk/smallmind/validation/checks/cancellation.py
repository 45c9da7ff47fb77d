"""How soon does a request return when it is cancelled?"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from smallmind.validation.outcomes import judged, skipped
from smallmind.validation.report import Figure, Outcome
from smallmind.validation.subject import Subject
from smallmind_engine.control import CancellationToken
from smallmind_engine.runtime import GenerationResult
from smallmind_engine.telemetry import StopReason

_TOKENS: Final = 24
_PATIENCE_S: Final = 30.0
_ROUNDS: Final = 3
"""A busy machine gets further chances; a slow engine is as slow then."""

_PATIENT_S: Final = 120.0
"""A round of a slow model is made shorter than this, and not made again after it."""

_FEWEST: Final = 8
_PROBE_EVERY: Final = 5
_SPIN_S: Final = 0.01
_BUSY: Final = 1.5


@dataclass(frozen=True, slots=True)
class Latencies:
    """What became of cancelled requests.

    Attributes:
        seconds: from the cancellation to the return, of those that it reached; not empty.
        slowest_token_s: longest time between two tokens of requests in between, which nobody
            cancelled.
        stretch: how many times longer than it should a computation took in between, because
            others wanted the processor too; 1 on a machine that does nothing else.
        unexpected: stop reasons that a cancelled request must not have.
    """

    seconds: tuple[float, ...]
    slowest_token_s: float
    stretch: float
    unexpected: tuple[StopReason, ...]

    def percentile(self, share: float) -> float:
        """Seconds that so many of a hundred took at most."""
        return float(np.percentile(self.seconds, share)) if self.seconds else 0.0

    def limit_s(self, wanted_s: float) -> float:
        """What 99 of 100 must keep to: what is wanted, or a token where that takes longer.

        A busy machine is given as much more time as it takes from us.
        """
        return max(wanted_s * self.stretch, self.slowest_token_s)

    def excess_s(self, wanted_s: float) -> float:
        """By how much they do not keep to it."""
        return self.percentile(99) - self.limit_s(wanted_s)


def check_cancellation(subject: Subject) -> Outcome:
    """Requests cancelled at moments from prefill to the last token return within the limit."""
    begun_s = time.perf_counter()
    length = max(2, min(subject.amount(64, 192), subject.model.context_length - _TOKENS - 1))
    wanted_s = subject.options.max_cancel_latency
    before = _uncancelled(subject, length, 1_000)
    affordable = int(_PATIENT_S / max(before.timings.total_s, 1e-3))
    count = max(_FEWEST, min(subject.amount(_FEWEST, 40), affordable))
    rounds: list[Latencies] = []
    while not rounds or (
        len(rounds) < _ROUNDS
        and all(each.excess_s(wanted_s) > 0.0 for each in rounds)
        and time.perf_counter() - begun_s < _PATIENT_S
    ):
        first = 3_000 + count * len(rounds)
        rounds.append(_measured(subject, range(first, first + count), length, before))
    best = min(rounds, key=lambda each: each.excess_s(wanted_s))
    # Nothing that was cancelled has harmed what comes after.
    after = _uncancelled(subject, length, 1_000)
    wrong = [
        f"a cancelled request ended by {reason}" for each in rounds for reason in each.unexpected
    ]
    if after.token_ids != before.token_ids:
        wrong.append("after the cancellations the same request gives other tokens")
    if not best.seconds and not wrong:
        return skipped(f"each of {count} requests ended before its cancellation came")
    p50, p99 = best.percentile(50), best.percentile(99)
    busy = best.stretch >= _BUSY
    crowd = f" on a machine so busy that all takes {best.stretch:.1f} times as long" if busy else ""
    return judged(
        f"{len(best.seconds)} of {count} requests were under way; half returned within"
        f" {p50 * 1e3:.2f} ms, 99 % within {p99 * 1e3:.2f} ms{crowd}",
        (
            Figure(name="cancelled", value=len(best.seconds)),
            Figure(name="p50", value=p50, unit="s"),
            Figure(name="p99", value=p99, unit="s", at_most=best.limit_s(wanted_s)),
            Figure(name="slowest token", value=best.slowest_token_s, unit="s"),
            Figure(name="stretch by other work", value=best.stretch),
        ),
        wrong,
    )


def _uncancelled(subject: Subject, length: int, first: int) -> GenerationResult:
    prompt = subject.prompt_ids(length, first=first)
    return subject.generate(prompt, max_tokens=_TOKENS, temperature=0.0, ignore_eos=True)


def _slowest_token_s(subject: Subject, length: int, first: int) -> float:
    """The longest time between two tokens of a request that nobody cancels."""
    moments: list[float] = []
    subject.generate(
        subject.prompt_ids(length, first=first),
        max_tokens=_TOKENS,
        temperature=0.0,
        ignore_eos=True,
        on_token=lambda _: moments.append(time.perf_counter()),
    )
    return max(np.diff(moments).tolist(), default=0.0)


def _stretch() -> float:
    """Wall time of a short computation to its time on the processor."""
    begun_s, begun_cpu_s = time.perf_counter(), time.thread_time()
    while time.thread_time() - begun_cpu_s < _SPIN_S:
        pass
    return (time.perf_counter() - begun_s) / (time.thread_time() - begun_cpu_s)


def _measured(subject: Subject, numbers: range, length: int, like: GenerationResult) -> Latencies:
    """Cancel requests one after the other, at moments spread over the time that one takes.

    Args:
        subject: what is validated.
        numbers: one for each prompt: prompts that begin alike would be read from the store of
            prefixes, in no time.
        length: of prompts, tokens.
        like: a request that was not cancelled.
    """
    seconds: list[float] = []
    unexpected: list[StopReason] = []
    slowest_s, stretch = 0.0, 1.0
    for index, number in enumerate(numbers):
        if index % _PROBE_EVERY == 0:
            slowest_s = max(slowest_s, _slowest_token_s(subject, length, 10_000 + number))
        stretch = max(stretch, _stretch())
        delay_s = like.timings.total_s * (index + 0.5) / len(numbers)
        prompt = subject.prompt_ids(length, first=number)
        result, latency_s = _cancelled_after(subject, prompt, delay_s)
        if result.stop_reason is StopReason.CANCELLED_BY_CALLER and latency_s is not None:
            seconds.append(latency_s)
        elif result.stop_reason is not like.stop_reason:  # else it had just ended
            unexpected.append(result.stop_reason)
    return Latencies(tuple(seconds), slowest_s, stretch, tuple(unexpected))


def _cancelled_after(
    subject: Subject, prompt: Sequence[int], delay_s: float
) -> tuple[GenerationResult, float | None]:
    """Run a request and cancel it meanwhile; seconds from then to its return, or None."""
    token = CancellationToken(subject.token)
    begun, ended = threading.Event(), threading.Event()
    cancelled_at: list[float] = []

    def cancel() -> None:
        begun.wait(_PATIENCE_S)
        if not ended.wait(delay_s):
            cancelled_at.append(time.perf_counter())
            token.cancel()

    thread = threading.Thread(target=cancel, name="smallmind-validation", daemon=True)
    thread.start()
    try:
        begun.set()
        result = subject.generate(
            prompt, max_tokens=_TOKENS, temperature=0.0, ignore_eos=True, cancellation=token
        )
        returned = time.perf_counter()
    finally:
        ended.set()
        thread.join()
        token.close()
    return result, returned - cancelled_at[0] if cancelled_at else None
