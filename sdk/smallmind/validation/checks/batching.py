"""Does a request give the same tokens in company as alone?"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from smallmind.validation.outcomes import judged, skipped
from smallmind.validation.report import Figure, Outcome
from smallmind.validation.subject import Subject
from smallmind_engine.runtime import GenerationResult

_TOKENS = 20


def check_batching(subject: Subject) -> Outcome:
    """Requests at once, each with a seed of its own, give what each gives by itself.

    Skipped where they do, but the engine never takes two of them into one step.
    """
    count = subject.amount(3, 6)
    tokens = subject.amount(8, 24)
    prompts = [subject.prompt_ids(_TOKENS + 3 * index, first=index) for index in range(count)]

    def run(index: int) -> GenerationResult:
        return subject.generate(
            prompts[index],
            max_tokens=tokens,
            temperature=1.0,
            seed=subject.options.seed + index,
            ignore_eos=True,
        )

    alone = [run(index) for index in range(count)]
    before = subject.engine.stats()
    with ThreadPoolExecutor(count) as pool:
        together = list(pool.map(run, range(count)))
    after = subject.engine.stats()
    pairs = zip(alone, together, strict=True)
    different = [index for index, (one, two) in enumerate(pairs) if one.token_ids != two.token_ids]
    wrong = [f"request {index} gives other tokens in company" for index in different]
    alone_because = _never_batches(subject)
    if alone_because and not wrong:
        return skipped(f"nothing was batched: {alone_because}")
    steps = max(1, after.steps - before.steps)
    share = (after.decode_tokens - before.decode_tokens) / steps
    return judged(
        f"{count} requests at once ({share:.2g} in a step on average) give the tokens that each"
        f" gives alone",
        (
            Figure(name="requests", value=count),
            Figure(name="requests in a step", value=share),
            Figure(name="different", value=len(different), at_most=0),
        ),
        wrong,
    )


def _never_batches(subject: Subject) -> str:
    """Why each step of the engine serves one request; empty where a step may serve several."""
    runner = subject.model.runner
    if not runner.batch_invariant:
        return f"the {runner.backend} backend runs one request in a step"
    if subject.engine_options.max_batch_size == 1:
        return "max_batch_size is 1"
    return ""
