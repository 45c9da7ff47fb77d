"""Scoring: what the model thinks of a text that is already there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from smallmind_engine.cache import common_prefix
from smallmind_engine.runtime.core import EngineCore
from smallmind_engine.runtime.reading.model_work import ModelWork, WorkOptions
from smallmind_engine.runtime.reading.target_logprobs import target_logprobs, told
from smallmind_engine.sampling import RowLogprobs
from smallmind_engine.telemetry import Correlation, correlated
from smallmind_engine.telemetry.errors import ConfigError, ContextOverflowError
from smallmind_engine.telemetry.reasons import ReasonCode


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoringOptions(WorkOptions):
    """How a text is scored.

    Attributes:
        parse_special: whether control tokens written in the texts are taken as such.
    """

    parse_special: bool = False


@dataclass(frozen=True, slots=True)
class TokenScore:
    """What the model gave one token.

    Attributes:
        token_id: the token.
        text: its characters; not whole ones when it is part of one.
        logprob: its natural log-probability, <= 0.
        greedy: whether the model found no other token likelier.
    """

    token_id: int
    text: str
    logprob: float
    greedy: bool


@dataclass(frozen=True, slots=True)
class ScoreResult:
    """What the model thinks of a continuation.

    Attributes:
        tokens: of the continuation, in order.
        prompt_tokens: tokens before them.
        duration_s: from submission to end.
        correlation: ids that its log lines carry too.
        model: name of the model.
        model_fingerprint: identifies the content of its file.
        backend: what computed it.
    """

    tokens: tuple[TokenScore, ...]
    prompt_tokens: int
    duration_s: float
    correlation: Correlation
    model: str
    model_fingerprint: str
    backend: str

    @property
    def logprob(self) -> float:
        """Log-probability of the whole: the sum over its tokens."""
        return math.fsum(token.logprob for token in self.tokens)

    @property
    def mean_logprob(self) -> float:
        """The same by token, which lets continuations of different lengths be compared."""
        return self.logprob / len(self.tokens)

    @property
    def perplexity(self) -> float:
        """How many tokens the model hesitated between, on average: 1 is certainty."""
        return perplexity_of(self.mean_logprob)

    @property
    def greedy(self) -> bool:
        """Whether the model would have written just this at temperature 0."""
        return all(token.greedy for token in self.tokens)


def perplexity_of(mean_logprob: float) -> float:
    """``exp`` of the negated mean; infinite where that overflows."""
    try:
        return math.exp(-mean_logprob)
    except OverflowError:
        return math.inf


class ScoringRun:
    """Scores one continuation once. Belongs to one thread at a time.

    Args:
        core: the engine.
        prompt: text, or token ids that are taken as they are; at least one token.
        continuation: likewise.
        options: how.
    """

    def __init__(
        self,
        core: EngineCore,
        prompt: str | Sequence[int],
        continuation: str | Sequence[int],
        options: ScoringOptions,
    ) -> None:
        core.check_open()
        core.check_generates()
        self._core = core
        self._prompt = prompt
        self._continuation = continuation
        self._options = options
        self._work = ModelWork(core, options, "scoring")

    def cancel(self) -> None:
        """Stop within a step. Thread-safe."""
        self._work.cancel()

    def run(self) -> ScoreResult:
        """Do the work.

        Raises:
            ConfigError: there is no token before the continuation, or none in it.
            TokenizerError: a token id is outside the vocabulary.
            ContextOverflowError: the two do not fit the context.
            BackpressureError: the queue is full.
            MemoryBudgetError: the KV cache does not fit the budget.
            OperationCancelledError: cancelled, or past the deadline.
            InferenceError: the model gave no finite scores.
        """
        work = self._work
        with told(self._core, work, "scoring ended"), correlated(work.correlation):
            work.check_room()
            ids, first = self._tokenize()
            with work.admitted(), work.prefixed_cache(ids, first) as (cache, _):
                scores = target_logprobs(self._core, work, cache, ids, first)
            return self._result(ids, first, scores)

    def _tokenize(self) -> tuple[list[int], int]:
        """All tokens, and the place of the first one that belongs to the continuation."""
        prompt, continuation = self._prompt, self._continuation
        if isinstance(prompt, str) and isinstance(continuation, str):
            # Cut as a whole, for a model knows texts as they are cut. A token that holds
            # characters of both belongs to the continuation.
            ids = self._encode(prompt + continuation, add_special=True)
            alone = self._encode(prompt, add_special=True)
            first = common_prefix(ids, alone)
        else:
            before = self._encode(prompt, add_special=True)
            ids = [*before, *self._encode(continuation, add_special=False)]
            first = len(before)
        self._check(ids, first)
        return ids, first

    def _encode(self, text: str | Sequence[int], *, add_special: bool) -> list[int]:
        if isinstance(text, str):
            tokenizer = self._core.model.tokenizer
            ids = tokenizer.encode(
                text,
                add_special=add_special,
                parse_special=self._options.parse_special,
                limit=self._work.limit,
            )
            # What ends a text does not end a prompt.
            ends = add_special and tokenizer.add_eos and ids[-1:] == [tokenizer.eos_id]
            return ids[:-1] if ends else ids
        ids = [int(token) for token in text]
        self._core.check_token_ids(ids)
        return ids

    def _check(self, ids: Sequence[int], first: int) -> None:
        for missing, name in ((first < 1, "prompt"), (first >= len(ids), "continuation")):
            if missing:
                raise ConfigError(
                    ReasonCode.PROMPT_EMPTY,
                    f"the {name} holds no token; there must be one before those that are scored,"
                    " and one to score",
                    hint=f"pass a {name}",
                )
        context = self._core.model.context_length
        if len(ids) > context:
            raise ContextOverflowError(
                ReasonCode.CONTEXT_OVERFLOW,
                f"prompt and continuation have {len(ids)} tokens; the context holds {context}",
                hint="shorten them, or use engine.perplexity() for a long text",
                prompt_tokens=len(ids),
                context_length=context,
            )

    def _result(self, ids: Sequence[int], first: int, scores: RowLogprobs) -> ScoreResult:
        model = self._core.model
        tokens = tuple(
            TokenScore(
                token_id=token,
                text=model.tokenizer.token_bytes(token).decode("utf-8", "replace"),
                logprob=logprob,
                greedy=token == best,
            )
            for token, logprob, best in zip(
                ids[first:], scores.logprobs.tolist(), scores.likeliest.tolist(), strict=True
            )
        )
        return ScoreResult(
            tokens=tokens,
            prompt_tokens=first,
            duration_s=self._work.elapsed_s,
            correlation=self._work.correlation,
            model=model.name,
            model_fingerprint=model.fingerprint,
            backend=model.runner.backend,
        )
