"""From the model's answer to a token, its text, and whether it is the last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from smallmind_engine.kernels import BestToken, FloatArray, LogitsWanted, Output
from smallmind_engine.model import LoadedModel
from smallmind_engine.runtime.ledger import TimeLedger
from smallmind_engine.runtime.observer import RequestObserver
from smallmind_engine.runtime.options import GenerationOptions
from smallmind_engine.runtime.quality import QualityMeter
from smallmind_engine.runtime.results import StreamChunk
from smallmind_engine.runtime.structure import Structure
from smallmind_engine.sampling import Sampler, StopMatcher, TokenLogprob, token_logprob
from smallmind_engine.telemetry import Phase, ReasonCode, StopReason, now_ns
from smallmind_engine.telemetry.errors import InferenceError
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
        detokenizer: holds incomplete characters; None before the decode began.
        stops: holds text that may become a stop string; None before the decode began.
        structure: holds the tokens to a grammar; None when any text will do.
    """

    parts: list[str] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    ttft_s: float | None = None
    decode_steps: int = 0
    detokenizer: StreamingDetokenizer | None = None
    stops: StopMatcher | None = None
    structure: Structure | None = None

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
        text = self.detokenizer.push(token_id)
        if self.stops.has_stops:
            text = self.stops.push(text)
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


# Reading a member of an enum takes as long as calling a function; these are read for each token.
_SAMPLING: Final = Phase.SAMPLE
_MASKING: Final = Phase.MASK
_DETOKENIZING: Final = Phase.DETOKENIZE
_TELEMETRY: Final = Phase.TELEMETRY


class TokenMaker:
    """Draws the tokens of one request.

    Args:
        model: whose answers are read.
        options: of the request.
        prompt_ids: tokens before the completion; spaces at its beginning depend on them.
        ledger: of the request.
        observer: of the request.
        completion: receives what is produced.
        quality: measures the tokens; None when nobody wants to know.

    Attributes:
        wanted: what to ask the model for.
        seed: with which the draws can be repeated.
    """

    __slots__ = (
        "_completion",
        "_end_ids",
        "_ledger",
        "_observer",
        "_options",
        "_penalizes",
        "_quality",
        "_sampler",
        "_structure",
        "seed",
        "wanted",
    )

    def __init__(
        self,
        model: LoadedModel,
        options: GenerationOptions,
        prompt_ids: Sequence[int],
        ledger: TimeLedger,
        observer: RequestObserver,
        completion: Completion,
        quality: QualityMeter | None = None,
    ) -> None:
        self._quality = quality
        self._end_ids = frozenset() if options.ignore_eos else model.tokenizer.eog_ids
        self._options = options
        sampling = options.sampling
        self._sampler = Sampler(sampling, model.spec.vocab_size, history=prompt_ids)
        self.seed = self._sampler.seed
        self._penalizes = sampling.penalizes
        self._structure = completion.structure
        # A greedy choice needs no row of logits, which spares a backend part of the work.
        self.wanted = (
            LogitsWanted.BEST
            if self._sampler.takes_best
            and options.logprobs is None
            and quality is None
            and self._structure is None
            else LogitsWanted.LAST
        )
        self._ledger = ledger
        self._observer = observer
        self._completion = completion
        completion.detokenizer = StreamingDetokenizer(
            model.tokenizer,
            skip_special=True,
            prompt_ids=prompt_ids,
            # The grammar has seen every blank, and none is to be taken away.
            keep_space=self._structure is not None,
        )
        completion.stops = StopMatcher(options.stop)

    def make(self, answer: Output) -> str | None:
        """Draw a token and make its text; None at the end of the sequence. Hot path.

        Raises:
            InferenceError: the answer holds NaN or infinity, or is none at all.
        """
        completion, structure = self._completion, self._structure
        if structure is not None and structure.exhausted:  # only the empty text will do
            return None
        if answer is None:
            raise InferenceError(ReasonCode.ERROR, "the model gave no answer for the last token")
        if isinstance(answer, BestToken):
            token_id = answer.token_id
        else:
            token_id = self._sampler.sample(
                answer, None if structure is None else structure.allowed
            )
        if completion.ttft_s is None:
            self._ledger.enter(_SAMPLING)
            completion.ttft_s = self._observer.first_token()
        if token_id in self._end_ids:
            return None
        if self._penalizes:
            self._sampler.accept(token_id)
        index = len(completion.token_ids)
        completion.token_ids.append(token_id)
        if self._options.logprobs is not None and not isinstance(answer, BestToken):
            found = token_logprob(answer, token_id, self._options.logprobs)
            completion.logprobs.append(found)
        if self._quality is not None and not isinstance(answer, BestToken):
            self._measure(self._quality, index, answer, token_id)
        if structure is not None:
            self._ledger.enter(_MASKING)
            structure.accept(token_id)
        self._ledger.enter(_DETOKENIZING)
        text = completion.push(token_id)
        self._observer.token(index, token_id)
        return text

    def _measure(self, meter: QualityMeter, index: int, logits: FloatArray, token_id: int) -> None:
        self._ledger.enter(_TELEMETRY)
        begin_ns = self._ledger.mark_ns
        found, repetition = meter.measure(logits, token_id, self._sampler)
        self._observer.spent(now_ns() - begin_ns)
        self._observer.quality(index, found, repetition)

    def chunk(self, text: str) -> StreamChunk:
        """The token just made, for who reads it."""
        completion = self._completion
        logprob = completion.logprobs[-1] if completion.logprobs else None
        ids = completion.token_ids
        return StreamChunk(text, ids[-1], len(ids) - 1, logprob)

    def verdict(self) -> StopReason | None:
        """Whether the token just made is the last."""
        completion = self._completion
        if completion.stops is not None and completion.stops.stopped:
            return StopReason.STOP_SEQUENCE
        if self._structure is not None and self._structure.exhausted:
            return StopReason.COMPLETED
        if len(completion.token_ids) >= self._options.max_tokens:
            return StopReason.MAX_TOKENS
        return None
