"""What an engine does with a model besides single completions: choices, scores and vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from smallmind._merged_options import merged_options
from smallmind._model_work import EmbeddingKwargs, PerplexityKwargs, ScoringKwargs, arun
from smallmind._request_options import RequestKwargs, merged
from smallmind_engine.runtime import EngineCore, GenerationOptions
from smallmind_engine.runtime.choices import ChoicesResult, ChoicesRun
from smallmind_engine.runtime.reading import (
    EmbeddingOptions,
    EmbeddingResult,
    EmbeddingRun,
    PerplexityOptions,
    PerplexityResult,
    PerplexityRun,
    ScoreResult,
    ScoringOptions,
    ScoringRun,
)


class EngineWork:
    """The base of ``Engine``.

    Args:
        core: the engine's parts.
    """

    def __init__(self, core: EngineCore) -> None:
        self._core = core

    def choices(
        self,
        prompt: str | Sequence[int],
        n: int = 1,
        *,
        best_of: int | None = None,
        options: GenerationOptions | None = None,
        **kwargs: Unpack[RequestKwargs],
    ) -> ChoicesResult:
        """Continue a prompt several times; but for its last few tokens it is computed once.

        Args:
            prompt: text, or token ids that are taken as they are.
            n: choices to return, each with a seed of its own that follows from ``seed``.
            best_of: choices to draw; those with the highest mean log-probability are returned,
                the best first. None for no ranking.
            options: see ``GenerationOptions``; ``request_timeout`` is for all together.
            kwargs: the same, one by one; they win over ``options``.

        Raises:
            SmallMindError: as ``generate``.
        """
        return ChoicesRun(self._core, prompt, merged(options, kwargs), n, best_of).run()

    async def achoices(
        self,
        prompt: str | Sequence[int],
        n: int = 1,
        *,
        best_of: int | None = None,
        options: GenerationOptions | None = None,
        **kwargs: Unpack[RequestKwargs],
    ) -> ChoicesResult:
        """As ``choices``, for asyncio: cancelling the task stops the request."""
        return await arun(ChoicesRun(self._core, prompt, merged(options, kwargs), n, best_of))

    def score(
        self,
        prompt: str | Sequence[int],
        continuation: str | Sequence[int],
        *,
        options: ScoringOptions | None = None,
        **kwargs: Unpack[ScoringKwargs],
    ) -> ScoreResult:
        """How likely the model finds a continuation, token by token.

        Args:
            prompt: text, or token ids that are taken as they are; at least one token.
            continuation: likewise. Two texts are cut into tokens as one, and a token that holds
                characters of both belongs to the continuation.
            options: see ``ScoringOptions``.
            kwargs: the same, one by one; they win over ``options``.

        Raises:
            ConfigError: there is no token before the continuation, or none in it.
            ContextOverflowError: the two do not fit the context.
            OperationCancelledError: cancelled, or past the deadline.
            SmallMindError: else as ``generate``.
        """
        chosen = merged_options(ScoringOptions, options, kwargs)
        return ScoringRun(self._core, prompt, continuation, chosen).run()

    async def ascore(
        self,
        prompt: str | Sequence[int],
        continuation: str | Sequence[int],
        *,
        options: ScoringOptions | None = None,
        **kwargs: Unpack[ScoringKwargs],
    ) -> ScoreResult:
        """As ``score``, for asyncio."""
        chosen = merged_options(ScoringOptions, options, kwargs)
        return await arun(ScoringRun(self._core, prompt, continuation, chosen))

    def perplexity(
        self,
        text: str | Sequence[int],
        *,
        options: PerplexityOptions | None = None,
        **kwargs: Unpack[PerplexityKwargs],
    ) -> PerplexityResult:
        """How well the model foresees a text of any length.

        Args:
            text: text, or token ids that are taken as they are; at least two tokens.
            options: see ``PerplexityOptions``.
            kwargs: the same, one by one; they win over ``options``.

        Raises:
            ConfigError: the text is too short, or the window does not fit the context.
            OperationCancelledError: cancelled, or past the deadline.
            SmallMindError: else as ``generate``.
        """
        chosen = merged_options(PerplexityOptions, options, kwargs)
        return PerplexityRun(self._core, text, chosen).run()

    def embed(
        self,
        texts: str | Sequence[str],
        *,
        options: EmbeddingOptions | None = None,
        **kwargs: Unpack[EmbeddingKwargs],
    ) -> EmbeddingResult:
        """Vectors of texts, several of which go through the model at once.

        Args:
            texts: one, or several.
            options: see ``EmbeddingOptions``.
            kwargs: the same, one by one; they win over ``options``.

        Raises:
            ConfigError: an option, or a text, cannot be used.
            ContextOverflowError: a text is too long, and ``truncation`` is ``error``.
            OperationCancelledError: cancelled, or past the deadline.
            SmallMindError: else as ``generate``.
        """
        chosen = merged_options(EmbeddingOptions, options, kwargs)
        return EmbeddingRun(self._core, texts, chosen).run()

    async def aembed(
        self,
        texts: str | Sequence[str],
        *,
        options: EmbeddingOptions | None = None,
        **kwargs: Unpack[EmbeddingKwargs],
    ) -> EmbeddingResult:
        """As ``embed``, for asyncio: cancelling the task stops the work."""
        chosen = merged_options(EmbeddingOptions, options, kwargs)
        return await arun(EmbeddingRun(self._core, texts, chosen))
