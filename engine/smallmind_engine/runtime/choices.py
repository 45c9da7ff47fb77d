"""Choices: several completions of one prompt, and the best of more."""

from __future__ import annotations

import hashlib
import secrets
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from smallmind_engine.control import CancellationToken, WorkLimit
from smallmind_engine.runtime.collect import collected
from smallmind_engine.runtime.core import EngineCore
from smallmind_engine.runtime.generation import GenerationRun
from smallmind_engine.runtime.options import GenerationOptions
from smallmind_engine.runtime.request import GenerationRequest
from smallmind_engine.runtime.results import GenerationResult, Usage
from smallmind_engine.telemetry.errors import invalid_option

MAX_CHOICES: Final = 128
_SEED_LIMIT: Final = 2**53  # as of the sampler


@dataclass(frozen=True, slots=True)
class Choice:
    """One completion among several.

    Attributes:
        index: its number in the order of drawing; with the request's seed it names the draw.
        result: as of a request on its own; its seed repeats it.
        mean_logprob: of its tokens, by which choices are ranked; None when they were not, or when
            there is no token.
    """

    index: int
    result: GenerationResult
    mean_logprob: float | None

    @property
    def text(self) -> str:
        """The completion."""
        return self.result.text


@dataclass(frozen=True, slots=True)
class ChoicesResult:
    """Several completions of one prompt.

    Attributes:
        choices: the best first when they were ranked, else in the order of drawing. Fewer than
            asked for when the request was stopped.
        usage: of all that were drawn; the prompt counts once.
        seed: of the request: with it, all of it can be repeated.
    """

    choices: tuple[Choice, ...]
    usage: Usage
    seed: int

    @property
    def texts(self) -> tuple[str, ...]:
        """The completions."""
        return tuple(choice.text for choice in self.choices)


def choice_seed(seed: int, index: int) -> int:
    """The seed of a choice; the first one has the request's own.

    >>> choice_seed(7, 0), choice_seed(7, 1) != choice_seed(7, 2)
    (7, True)
    """
    if index == 0:
        return seed
    digest = hashlib.sha256(f"{seed}:{index}".encode()).digest()
    return int.from_bytes(digest[:8], "little") % _SEED_LIMIT


class ChoicesRun:
    """Draws several completions once. They share steps of the model, and the prompt's beginning.

    Args:
        core: the engine.
        prompt: text, or token ids that are taken as they are.
        options: of each; the timeout is for all together.
        n: choices to return.
        best_of: choices to draw, of which those with the highest mean log-probability are
            returned; None for ``n``, unranked.
    """

    def __init__(
        self,
        core: EngineCore,
        prompt: str | Sequence[int],
        options: GenerationOptions,
        n: int,
        best_of: int | None,
    ) -> None:
        core.check_open()
        _check_count("n", n, least=1)
        if best_of is not None:
            _check_count("best_of", best_of, least=n)
        self._core = core
        self._prompt = prompt
        self._options = options
        self._n = n
        self._ranked = best_of is not None
        self._draws = n if best_of is None else best_of
        self._seed = secrets.randbelow(_SEED_LIMIT) if options.seed is None else options.seed
        parents = () if options.cancellation is None else (options.cancellation,)
        self._token = CancellationToken(*parents)
        self._limit = WorkLimit.within(options.request_timeout, self._token)
        # Who is told of each token is told of one completion after the other.
        engine = core.options
        most = min(engine.max_batch_size, engine.max_concurrent_requests)
        self._at_once = most if options.on_token is None else 1

    def cancel(self) -> None:
        """Stop within a step. Thread-safe."""
        self._token.cancel()

    def run(self) -> ChoicesResult:
        """Draw them.

        Raises:
            SmallMindError: as a request on its own.
        """
        drawn: list[Choice] = []
        running: deque[tuple[int, GenerationRun]] = deque()
        indices = iter(range(self._draws))
        try:
            self._begin(running, indices)
            while running:
                index, request = running[0]
                drawn.append(self._choice(index, collected(request)))
                running.popleft()
                self._begin(running, indices)
        finally:
            for _, request in running:
                request.cancel()
            for _, request in running:
                request.close()
            self._token.close()
        usages = [choice.result.usage for choice in drawn]
        return ChoicesResult(
            choices=tuple(sorted(drawn, key=_worth) if self._ranked else drawn)[: self._n],
            usage=Usage(
                usages[0].prompt_tokens,
                usages[0].cached_tokens,
                sum(usage.completion_tokens for usage in usages),
            ),
            seed=self._seed,
        )

    def _begin(self, running: deque[tuple[int, GenerationRun]], indices: Iterator[int]) -> None:
        """Submit as many requests as share a step; none more once the time is over."""
        while len(running) < self._at_once:
            index = next(indices, None)
            if index is None or (index > 0 and self._limit.exceeded is not None):
                return
            request = self._request(index)
            running.append((index, request))
            request.begin()

    def _request(self, index: int) -> GenerationRun:
        options = self._options
        remaining_s = self._limit.remaining_s
        options = replace(
            options,
            seed=choice_seed(self._seed, index),
            logprobs=0 if self._ranked and options.logprobs is None else options.logprobs,
            cancellation=self._token,
            # A deadline that has just passed still makes a request, which then ends by it.
            request_timeout=None if remaining_s is None else max(remaining_s, 1e-9),
            request_id=None if options.request_id is None else f"{options.request_id}-{index}",
        )
        return GenerationRun(self._core, GenerationRequest(prompt=self._prompt, options=options))

    def _choice(self, index: int, result: GenerationResult) -> Choice:
        if not self._ranked:
            return Choice(index, result, None)
        logprobs = [token.logprob for token in result.logprobs or ()]
        mean = sum(logprobs) / len(logprobs) if logprobs else None
        if self._options.logprobs is None:
            result = replace(result, logprobs=None)
        return Choice(index, result, mean)


def _worth(choice: Choice) -> tuple[bool, float, int]:
    """Sorts the highest mean first, and what has none last."""
    mean = choice.mean_logprob
    return mean is None, -(mean or 0.0), choice.index


def _check_count(name: str, value: object, *, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MAX_CHOICES:
        raise invalid_option(name, value, f"an integer from {least} to {MAX_CHOICES}")
