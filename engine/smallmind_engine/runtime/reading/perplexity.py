"""Perplexity: how well a model foresees a long text, window by window."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from smallmind_engine.runtime.core import EngineCore
from smallmind_engine.runtime.reading.model_work import ModelWork, WorkOptions
from smallmind_engine.runtime.reading.scoring import perplexity_of
from smallmind_engine.runtime.reading.target_logprobs import target_logprobs, told
from smallmind_engine.telemetry import Correlation, ReasonCode, correlated
from smallmind_engine.telemetry.errors import ConfigError, invalid_option

DEFAULT_WINDOW: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class PerplexityOptions(WorkOptions):
    """How a text is gone through.

    Attributes:
        window: tokens that the model sees at once; None for 1024, or its context if that is less.
        stride: tokens from window to window: each window scores so many new ones, and the rest of
            it is what they follow on. None for half of a window.
        on_progress: told of tokens done and tokens in all.
    """

    window: int | None = None
    stride: int | None = None
    on_progress: Callable[[int, int], None] | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        WorkOptions.__post_init__(self)
        for name, least in (("window", 2), ("stride", 1)):
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise invalid_option(name, value, f"an integer of at least {least}")


@dataclass(frozen=True, slots=True)
class PerplexityResult:
    """How well a model foresees a text.

    Attributes:
        perplexity: ``exp`` of the negated mean log-probability.
        standard_error: of the perplexity, from the spread of the tokens.
        mean_logprob: of a token.
        bits_per_byte: of the text, which also compares models with different tokenizers; None
            when token ids were given.
        tokens: that were scored.
        windows: that the text was gone through in.
        window: tokens of each, at most.
        stride: tokens from one to the next.
        duration_s: from submission to end.
        correlation: ids that its log lines carry too.
        model: name of the model.
        model_fingerprint: identifies the content of its file.
        backend: what computed it.
    """

    perplexity: float
    standard_error: float
    mean_logprob: float
    bits_per_byte: float | None
    tokens: int
    windows: int
    window: int
    stride: int
    duration_s: float
    correlation: Correlation
    model: str
    model_fingerprint: str
    backend: str


class Window(NamedTuple):
    """A stretch of a text: it is read from ``begin``, and scored from ``first`` to ``end``."""

    begin: int
    first: int
    end: int


def windows_over(n_tokens: int, size: int, stride: int, first: int) -> Iterator[Window]:
    """Windows that score every token from ``first`` on once, with what came before it in sight.

    >>> [tuple(window) for window in windows_over(10, 4, 3, 1)]
    [(0, 1, 4), (3, 4, 7), (6, 7, 10)]
    """
    end = min(size, n_tokens)
    yield Window(0, first, end)
    while end < n_tokens:
        scored, end = end, min(end + stride, n_tokens)
        yield Window(max(0, end - size), scored, end)


class PerplexityRun:
    """Goes through one text once. Belongs to one thread at a time.

    Args:
        core: the engine.
        text: text, or token ids that are taken as they are.
        options: how.
    """

    def __init__(
        self, core: EngineCore, text: str | Sequence[int], options: PerplexityOptions
    ) -> None:
        core.check_open()
        core.check_generates()
        self._core = core
        self._text = text
        self._options = options
        context = core.model.context_length
        self._window = options.window or min(DEFAULT_WINDOW, context)
        if self._window > context:
            raise invalid_option("window", self._window, f"at most the context of {context}")
        self._work = ModelWork(core, options, "perplexity")
        tokenizer = core.model.tokenizer
        # A model that was trained with a first token misses it in every window.
        begins = tokenizer.add_bos and tokenizer.bos_id is not None
        self._lead = [tokenizer.bos_id] if begins and tokenizer.bos_id is not None else []
        most = self._window - max(1, len(self._lead))
        self._stride = options.stride or max(1, self._window // 2)
        if self._stride > most:
            raise invalid_option("stride", self._stride, f"at most {most} for this window")

    def cancel(self) -> None:
        """Stop within a step. Thread-safe."""
        self._work.cancel()

    def run(self) -> PerplexityResult:
        """Do the work.

        Raises:
            ConfigError: the text has fewer than two tokens.
            TokenizerError: a token id is outside the vocabulary.
            BackpressureError: the queue is full.
            MemoryBudgetError: the KV cache does not fit the budget.
            OperationCancelledError: cancelled, or past the deadline.
            InferenceError: the model gave no finite scores.
        """
        work = self._work
        with told(self._core, work, "perplexity ended"), correlated(work.correlation):
            work.check_room()
            ids = self._tokenize()
            parts: list[npt.NDArray[np.float64]] = []
            size = self._window - len(self._lead)
            scored_from = 1 - len(self._lead)
            total = len(ids) - scored_from
            with work.admitted():
                for window in windows_over(len(ids), size, self._stride, scored_from):
                    parts.append(self._score(ids, window))
                    if self._options.on_progress is not None:
                        self._options.on_progress(window.end - scored_from, total)
            return self._result(np.concatenate(parts), len(parts))

    def _score(self, ids: Sequence[int], window: Window) -> npt.NDArray[np.float64]:
        tokens = [*self._lead, *ids[window.begin : window.end]]
        first = len(self._lead) + window.first - window.begin
        with self._work.caches([tokens]) as (cache,):
            return target_logprobs(self._core, self._work, cache, tokens, first).logprobs

    def _tokenize(self) -> list[int]:
        core = self._core
        if isinstance(self._text, str):
            ids = core.model.tokenizer.encode(self._text, add_special=False, limit=self._work.limit)
        else:
            ids = [int(token) for token in self._text]
            core.check_token_ids(ids)
        if len(ids) + len(self._lead) < 2:
            raise ConfigError(
                ReasonCode.PROMPT_EMPTY,
                f"the text has {len(ids)} tokens; two are the least that can be scored",
                hint="pass a longer text",
            )
        return ids

    def _result(self, logprobs: npt.NDArray[np.float64], n_windows: int) -> PerplexityResult:
        model, count = self._core.model, len(logprobs)
        mean = float(logprobs.mean())
        perplexity = perplexity_of(mean)
        spread = float(logprobs.std(ddof=1)) if count > 1 else 0.0
        n_bytes = len(self._text.encode("utf-8", "replace")) if isinstance(self._text, str) else 0
        return PerplexityResult(
            perplexity=perplexity,
            standard_error=perplexity * spread / math.sqrt(count),
            mean_logprob=mean,
            bits_per_byte=-mean * count / math.log(2.0) / n_bytes if n_bytes else None,
            tokens=count,
            windows=n_windows,
            window=self._window,
            stride=self._stride,
            duration_s=self._work.elapsed_s,
            correlation=self._work.correlation,
            model=model.name,
            model_fingerprint=model.fingerprint,
            backend=model.runner.backend,
        )
