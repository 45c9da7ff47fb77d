"""What a request gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from smallmind_engine.runtime.structure import Structured
from smallmind_engine.sampling import TokenLogprob
from smallmind_engine.telemetry import Correlation, Phase, StopReason

_AT_EACH_TOKEN: Final = (Phase.DECODE, Phase.MASK, Phase.SAMPLE, Phase.DETOKENIZE)


@dataclass(frozen=True, slots=True)
class StreamChunk:
    """A piece of a stream.

    Attributes:
        text: whole characters; may be empty while a character or stop string is incomplete.
        token_id: the token that brought it; None for text that was held back until the end.
        index: of the token, from 0.
        logprob: when the request asked for log-probabilities.
    """

    text: str
    token_id: int | None
    index: int
    logprob: TokenLogprob | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Counts of tokens.

    Attributes:
        prompt_tokens: of the prompt, reused ones included.
        cached_tokens: of the prompt, found in the KV cache.
        completion_tokens: produced; the end-of-sequence token is not counted.
    """

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int

    @property
    def total_tokens(self) -> int:
        """Prompt and completion."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class Timings:
    """Where the time went, in seconds.

    Attributes:
        total_s: from submission to end.
        time_to_first_token_s: from submission; None when there was no token.
        ledger: by phase; adds up to ``total_s``.
        decode_steps: steps of the model after the prompt.
        prefill_tokens: tokens of the prompt that were computed.
    """

    total_s: float
    time_to_first_token_s: float | None
    ledger: Mapping[Phase, float]
    decode_steps: int
    prefill_tokens: int

    @property
    def tokens_per_second(self) -> float | None:
        """Speed of the decode, as the model and sampler saw it; None without a step."""
        spent = sum(self.ledger[phase] for phase in _AT_EACH_TOKEN)
        return self.decode_steps / spent if self.decode_steps and spent > 0.0 else None

    @property
    def prefill_tokens_per_second(self) -> float | None:
        """Speed of the prefill; None when nothing was computed."""
        spent = self.ledger[Phase.PREFILL]
        return self.prefill_tokens / spent if self.prefill_tokens and spent > 0.0 else None

    @property
    def attributed_share(self) -> float:
        """Share of the time that is booked on a named phase, 0 to 1."""
        if self.total_s <= 0.0:
            return 1.0
        return 1.0 - self.ledger[Phase.UNATTRIBUTED] / self.total_s


@dataclass(frozen=True, slots=True)
class GenerationResult:
    """What came out of a request, however it ended.

    Attributes:
        text: the completion, without the prompt and without the stop string.
        token_ids: of the completion, without the end-of-sequence token.
        stop_reason: why it ended.
        stop_sequence: the stop string that ended it, when one did.
        usage: counts of tokens.
        timings: where the time went.
        correlation: ids that its events, log lines and spans carry too.
        model: name of the model.
        model_fingerprint: identifies the content of its file.
        backend: what computed it.
        seed: with which the draws can be repeated.
        logprobs: one for each token when they were asked for.
        structured: what became of the ``response_format``; None without one.
    """

    text: str
    token_ids: tuple[int, ...]
    stop_reason: StopReason
    stop_sequence: str | None
    usage: Usage
    timings: Timings
    correlation: Correlation
    model: str
    model_fingerprint: str
    backend: str
    seed: int
    logprobs: tuple[TokenLogprob, ...] | None = None
    structured: Structured | None = None
