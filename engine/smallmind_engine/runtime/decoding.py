"""The decode loop: sample, show, step, until something ends it."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field

import numpy as np

from smallmind_engine.cache import KVCache
from smallmind_engine.control import WorkLimit
from smallmind_engine.kernels import BestToken, Chunk, FloatArray, LogitsWanted
from smallmind_engine.model import LoadedModel
from smallmind_engine.runtime.ledger import TimeLedger
from smallmind_engine.runtime.observer import RequestObserver
from smallmind_engine.runtime.options import GenerationOptions
from smallmind_engine.runtime.results import StreamChunk
from smallmind_engine.sampling import Sampler, StopMatcher, TokenLogprob, token_logprob
from smallmind_engine.telemetry import Phase, StopReason
from smallmind_engine.tokenizers import StreamingDetokenizer


@dataclass(slots=True)
class Completion:
    """What a request has produced so far; readable at any moment, however the request ends.

    Attributes:
        parts: text that was shown.
        token_ids: produced, without the end-of-sequence token.
        logprobs: one for each token when they were asked for.
        ttft_s: seconds from submission to the first token.
        decode_steps: steps of the model after the prompt.
        abandoned: set from elsewhere when the reader is too far behind.
        detokenizer: holds incomplete characters; None before the decode began.
        stops: holds text that may become a stop string; None before the decode began.
    """

    parts: list[str] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    ttft_s: float | None = None
    decode_steps: int = 0
    abandoned: bool = False
    detokenizer: StreamingDetokenizer | None = None
    stops: StopMatcher | None = None

    @property
    def text(self) -> str:
        """All text that was shown."""
        return "".join(self.parts)

    @property
    def stop_sequence(self) -> str | None:
        """The stop string that was reached."""
        return None if self.stops is None else self.stops.matched

    def push(self, token_id: int) -> str:
        """Take a token; answers the text that may be shown now."""
        if self.detokenizer is None or self.stops is None:
            return ""
        text = self.stops.push(self.detokenizer.push(token_id))
        self.parts.append(text)
        return text

    def flush(self) -> str:
        """Text that was held back, now that nothing follows."""
        if self.detokenizer is None or self.stops is None or self.stops.stopped:
            return ""
        text = self.stops.push(self.detokenizer.flush())
        if not self.stops.stopped:
            text += self.stops.flush()
        self.parts.append(text)
        return text


class Decoder:
    """Runs the loop of one request.

    Args:
        model: does the steps.
        options: of the request.
        prompt_ids: tokens before the completion; spaces at its beginning depend on them.
        sampler: draws the tokens.
        cache: of the sequence, holding the prompt.
        cached_ids: tokens in the cache; each step's token is added.
        logits: after the prompt, shape (V,).
        limit: stops the loop.
        ledger: of the request, in the phase ``SAMPLE``.
        observer: of the request.
        completion: receives what is produced.
    """

    def __init__(
        self,
        *,
        model: LoadedModel,
        options: GenerationOptions,
        prompt_ids: Sequence[int],
        sampler: Sampler,
        cache: KVCache,
        cached_ids: list[int],
        logits: FloatArray,
        limit: WorkLimit,
        ledger: TimeLedger,
        observer: RequestObserver,
        completion: Completion,
    ) -> None:
        self._runner = model.runner
        self._end_ids = frozenset() if options.ignore_eos else model.tokenizer.eog_ids
        self._context_length = model.context_length
        self._options = options
        self._sampler = sampler
        self._cache = cache
        self._cached_ids = cached_ids
        self._logits: FloatArray | BestToken = logits
        # A greedy choice needs no row of logits, which spares a backend part of the work.
        self._wanted = (
            LogitsWanted.BEST
            if sampler.takes_best and options.logprobs is None
            else LogitsWanted.LAST
        )
        self._limit = limit
        self._ledger = ledger
        self._observer = observer
        self._completion = completion
        completion.detokenizer = StreamingDetokenizer(
            model.tokenizer, skip_special=True, prompt_ids=prompt_ids
        )
        completion.stops = StopMatcher(options.stop)

    def run(self) -> Generator[StreamChunk, None, StopReason]:
        """Produce tokens until something ends it; that something is the return value."""
        ledger, completion, on_token = self._ledger, self._completion, self._options.on_token
        while True:
            chunk = self._next_chunk()
            if chunk is None:
                return StopReason.COMPLETED
            ledger.enter(Phase.CONSUMER)
            if on_token is not None:
                on_token(chunk)
            yield chunk
            ledger.enter(Phase.UNATTRIBUTED)
            ended = self._why_end()
            if ended is not None:
                return ended
            token_id = completion.token_ids[-1]
            ledger.enter(Phase.DECODE)
            self._step(token_id)
            ledger.enter(Phase.SAMPLE)

    def _next_chunk(self) -> StreamChunk | None:
        """Draw a token and make its text; None at the end of the sequence."""
        completion = self._completion
        logits = self._logits
        if isinstance(logits, BestToken):
            token_id = logits.token_id
        else:
            token_id = self._sampler.sample(logits)
        if completion.ttft_s is None:
            self._ledger.enter(Phase.SAMPLE)
            completion.ttft_s = self._observer.first_token()
        if token_id in self._end_ids:
            return None
        self._sampler.accept(token_id)
        index = len(completion.token_ids)
        completion.token_ids.append(token_id)
        logprob = None
        if self._options.logprobs is not None and not isinstance(logits, BestToken):
            logprob = token_logprob(logits, token_id, self._options.logprobs)
            completion.logprobs.append(logprob)
        self._ledger.enter(Phase.DETOKENIZE)
        text = completion.push(token_id)
        self._observer.token(index, token_id)
        return StreamChunk(text, token_id, index, logprob)

    def _why_end(self) -> StopReason | None:
        """Whether the loop is over after the token just shown."""
        completion = self._completion
        if completion.stop_sequence is not None:
            return StopReason.STOP_SEQUENCE
        if completion.abandoned:
            return StopReason.BACKPRESSURE_BUFFER_FULL
        if len(completion.token_ids) >= self._options.max_tokens:
            return StopReason.MAX_TOKENS
        if self._cache.length >= min(self._cache.capacity, self._context_length):
            full_context = self._cache.length >= self._context_length
            return StopReason.CONTEXT_FULL if full_context else StopReason.MEMORY_BUDGET_SOFT_LIMIT
        stopped = self._limit.exceeded
        return None if stopped is None else StopReason(stopped.value)

    def _step(self, token_id: int) -> None:
        chunk = Chunk(np.asarray([token_id], np.int64), self._cache, self._wanted)
        (logits,) = self._runner.forward(
            [chunk], limit=self._limit, on_operations=self._observer.on_operations
        )
        self._cached_ids.append(token_id)
        self._completion.decode_steps += 1
        if logits is not None:
            self._logits = logits
