"""Options and results of embedding."""

# N texts, C width

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate

from smallmind_engine.kernels import FloatArray
from smallmind_engine.runtime.reading.model_work import WorkOptions
from smallmind_engine.runtime.reading.pooling import Pooling
from smallmind_engine.telemetry import Correlation
from smallmind_engine.telemetry.errors import invalid_option


class Truncation(StrEnum):
    """What happens to a text that is longer than the model can read."""

    ERROR = "error"  # refuse it
    END = "end"  # leave out its end, and say so
    START = "start"  # leave out its beginning, and say so


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingOptions(WorkOptions):
    """How texts are embedded.

    Attributes:
        pooling: how the states of tokens become a vector; None for what the model was trained
            for, as its file says, or else the mean.
        normalize: scale vectors to length 1, so that their product is the cosine.
        truncation: what happens to texts that are too long.
        max_tokens: of a text, its special tokens included; None for all that the model can read.
        on_progress: told of texts done and texts in all.
    """

    pooling: Pooling | None = None
    normalize: bool = True
    truncation: Truncation = Truncation.ERROR
    max_tokens: int | None = None
    on_progress: Callable[[int, int], None] | None = None

    def __post_init__(self) -> None:
        """Check the values; plain strings for enums are welcome."""
        WorkOptions.__post_init__(self)
        for name, kind in (("pooling", Pooling), ("truncation", Truncation)):
            value = getattr(self, name)
            if value is None and name == "pooling":
                continue
            try:
                object.__setattr__(self, name, kind(value))
            except ValueError:
                raise invalid_option(name, value, f"one of {', '.join(kind)}") from None
        most = self.max_tokens
        if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
            raise invalid_option("max_tokens", most, "a positive integer")


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddingResult:
    """Vectors of texts.

    Attributes:
        vectors: shape (N, C), float32, one row for each text in their order; without pooling one
            for each token, those of the first text first.
        token_counts: tokens of each text that the model read.
        truncated: indices of the texts that were cut.
        pooling: what was done.
        normalized: whether the rows have length 1.
        duration_s: from submission to end.
        queue_s: of it, spent waiting for other requests.
        correlation: ids that its events carry too.
        model: name of the model.
        model_fingerprint: identifies the content of its file.
        backend: what computed it.
    """

    vectors: FloatArray
    token_counts: tuple[int, ...]
    truncated: tuple[int, ...]
    pooling: Pooling
    normalized: bool
    duration_s: float
    queue_s: float
    correlation: Correlation
    model: str
    model_fingerprint: str
    backend: str

    @property
    def dimension(self) -> int:
        """Numbers of a vector, C."""
        return int(self.vectors.shape[1])

    @property
    def prompt_tokens(self) -> int:
        """Tokens of all texts."""
        return sum(self.token_counts)

    def of(self, index: int) -> FloatArray:
        """What belongs to one text: its vector, shape (C,), or its tokens' ones, shape (T, C)."""
        if self.pooling is not Pooling.NONE:
            vector: FloatArray = self.vectors[index]
            return vector
        end = list(accumulate(self.token_counts))[index]
        return self.vectors[end - self.token_counts[index] : end]
