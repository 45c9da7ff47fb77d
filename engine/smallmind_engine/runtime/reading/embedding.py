"""Embedding: texts through the model, several in a step, and out as vectors."""

# T tokens, C width

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from smallmind_engine.cache import BLOCK_TOKENS
from smallmind_engine.kernels import Chunk, FloatArray, LogitsWanted
from smallmind_engine.runtime.core import EngineCore
from smallmind_engine.runtime.reading.embedding_types import (
    EmbeddingOptions,
    EmbeddingResult,
    Truncation,
)
from smallmind_engine.runtime.reading.model_work import ModelWork, status_of_error
from smallmind_engine.runtime.reading.pooling import default_pooling, normalized, pooled
from smallmind_engine.telemetry import (
    Degraded,
    DegradeReason,
    EmbeddingEnded,
    EventKind,
    ReasonCode,
    correlated,
)
from smallmind_engine.telemetry.errors import (
    ConfigError,
    ContextOverflowError,
    InferenceError,
    invalid_option,
)


class EmbeddingRun:
    """Turns texts into vectors once. Belongs to one thread at a time.

    Args:
        core: the engine.
        texts: one, or several.
        options: how.
    """

    def __init__(
        self, core: EngineCore, texts: str | Sequence[str], options: EmbeddingOptions
    ) -> None:
        self._core = core
        self._texts = [texts] if isinstance(texts, str) else list(texts)
        self._options = options
        self._work = ModelWork(core, options, "embedding")
        self._pooling = options.pooling or default_pooling(core.model)
        self._counts: tuple[int, ...] = ()
        self._truncated: tuple[int, ...] = ()

    def cancel(self) -> None:
        """Stop within a step. Thread-safe."""
        self._work.cancel()

    def run(self) -> EmbeddingResult:
        """Do the work.

        Raises:
            ConfigError: a text is none, or has no token.
            ContextOverflowError: a text is too long.
            BackpressureError: the queue is full.
            MemoryBudgetError: the KV caches of a decoder do not fit the budget.
            OperationCancelledError: cancelled, or past the deadline.
            InferenceError: the model gave no finite numbers.
            ClosedError: the engine is closed.
        """
        with self._work.begun():
            return self._told()

    def _told(self) -> EmbeddingResult:
        failure: BaseException | None = None
        try:
            with correlated(self._work.correlation):
                return self._run()
        except BaseException as error:
            failure = error
            raise
        finally:
            self._tell_end(failure)
            self._work.close()

    def _run(self) -> EmbeddingResult:
        model, work = self._core.model, self._work
        work.check_room()
        sequences = self._tokenize()
        rows: list[FloatArray] = []
        with work.admitted():
            for batch in self._batches(sequences):
                rows.extend(pooled(states, self._pooling) for states in self._states(batch))
                if self._options.on_progress is not None:
                    self._options.on_progress(len(rows), len(sequences))
        vectors = np.concatenate(rows) if rows else np.empty((0, model.spec.width), np.float32)
        if not np.isfinite(vectors).all():
            raise InferenceError(
                ReasonCode.NON_FINITE_LOGITS,
                "the model gave numbers that are not finite",
                hint="the model's weights are damaged",
            )
        return EmbeddingResult(
            vectors=normalized(vectors) if self._options.normalize else vectors,
            token_counts=self._counts,
            truncated=self._truncated,
            pooling=self._pooling,
            normalized=self._options.normalize,
            duration_s=work.elapsed_s,
            queue_s=work.queue_s,
            correlation=work.correlation,
            model=model.name,
            model_fingerprint=model.fingerprint,
            backend=model.runner.backend,
        )

    # -- tokens -------------------------------------------------------------------------------

    def _tokenize(self) -> list[list[int]]:
        sequences: list[list[int]] = []
        truncated: list[int] = []
        room = min(self._core.model.context_length, self._options.max_tokens or 1 << 62)
        for index, text in enumerate(self._texts):
            ids = self._encode(index, text)
            if len(ids) > room:
                ids = self._shorten(index, ids, room)
                truncated.append(index)
            sequences.append(ids)
        self._counts, self._truncated = tuple(map(len, sequences)), tuple(truncated)
        if truncated:
            self._tell_truncation(room)
        return sequences

    def _encode(self, index: int, text: str) -> list[int]:
        if not isinstance(text, str):
            raise invalid_option(f"texts[{index}]", text, "a string")
        ids = self._core.model.tokenizer.encode(text, limit=self._work.limit)
        if not ids:
            raise ConfigError(
                ReasonCode.PROMPT_EMPTY,
                f"text {index} holds no token, and this model adds none of its own",
                hint="leave empty texts out",
                index=index,
            )
        return ids

    def _shorten(self, index: int, ids: list[int], room: int) -> list[int]:
        """Leave tokens out, but not the special ones at the ends."""
        if self._options.truncation is Truncation.ERROR:
            raise ContextOverflowError(
                ReasonCode.CONTEXT_OVERFLOW,
                f"text {index} has {len(ids)} tokens; there is room for {room}",
                hint="shorten it, or use truncation='end'",
                index=index,
                prompt_tokens=len(ids),
                context_length=self._core.model.context_length,
            )
        tokenizer = self._core.model.tokenizer
        head = ids[: int(tokenizer.add_bos)]
        tail = ids[len(ids) - int(tokenizer.add_eos) :]
        inner = ids[len(head) : len(ids) - len(tail)]
        kept = room - len(head) - len(tail)
        if kept < 1:
            raise invalid_option("max_tokens", room, "more than the special tokens of a text")
        cut = inner[:kept] if self._options.truncation is Truncation.END else inner[-kept:]
        return [*head, *cut, *tail]

    # -- the model ----------------------------------------------------------------------------

    def _batches(self, sequences: list[list[int]]) -> Iterator[list[list[int]]]:
        """Cut the work into steps; a decoder's are no larger than the budget has caches for."""
        runner, free = self._core.model.runner, self._core.budget.free_bytes
        most, bytes_per_token = runner.prefill_chunk, runner.kv_bytes_per_token
        if free is None or not bytes_per_token:
            return batches(sequences, most)
        return batches(sequences, min(most, free // bytes_per_token), granule=BLOCK_TOKENS)

    def _states(self, batch: Sequence[Sequence[int]]) -> Iterator[FloatArray]:
        """Hidden states of each text's tokens, shape (T, C); several texts in one step."""
        model = self._core.model
        with self._work.caches(batch) as caches:
            pieces: list[list[FloatArray]] = [[] for _ in batch]
            longest = max(map(len, batch))
            # An encoder reads a text as a whole.
            size = model.runner.prefill_chunk if model.spec.causal else longest
            for begin in range(0, longest, size):
                end = begin + size
                going_on = [index for index, ids in enumerate(batch) if len(ids) > begin]
                chunks = [
                    Chunk(
                        np.asarray(batch[index][begin:end], np.int64),
                        caches[index],
                        LogitsWanted.HIDDEN,
                    )
                    for index in going_on
                ]
                for index, states in zip(going_on, self._work.forward(chunks), strict=True):
                    if isinstance(states, np.ndarray):
                        pieces[index].append(states)
            for parts in pieces:
                yield parts[0] if len(parts) == 1 else np.concatenate(parts)

    # -- telling ------------------------------------------------------------------------------

    def _tell_truncation(self, room: int) -> None:
        emitter = self._work.emitter
        if emitter.wants & EventKind.DEGRADED:
            emitter.publish(
                Degraded(
                    *emitter.header(),
                    component="embedding",
                    reason=DegradeReason.CONTEXT_TRUNCATION,
                    message=f"{len(self._truncated)} of {len(self._texts)} texts were cut to"
                    f" {room} tokens",
                )
            )

    def _tell_end(self, error: BaseException | None) -> None:
        emitter, model = self._work.emitter, self._core.model
        if not emitter.wants & EventKind.EMBEDDING_ENDED:
            return
        status, reason = status_of_error(error)
        emitter.publish(
            EmbeddingEnded(
                *emitter.header(),
                model=model.name,
                backend=model.runner.backend,
                status=status,
                reason=reason,
                error_type="" if error is None else type(error).__name__,
                pooling=self._pooling.value,
                texts=len(self._texts),
                tokens=sum(self._counts),
                truncated=len(self._truncated),
                dimension=model.spec.width,
                queue_s=self._work.queue_s,
                duration_s=self._work.elapsed_s,
            )
        )


def batches(
    sequences: Sequence[list[int]], most_tokens: int, granule: int = 1
) -> Iterator[list[list[int]]]:
    """Neighbours whose tokens fit into one step together; a longer one goes alone.

    Args:
        sequences: token ids of each text.
        most_tokens: of a step.
        granule: each sequence counts as a multiple of so many.

    >>> list(batches([[1], [2, 3], [4, 5, 6], [7]], 3))
    [[[1], [2, 3]], [[4, 5, 6]], [[7]]]
    """
    batch: list[list[int]] = []
    room = most_tokens
    for ids in sequences:
        size = -(-len(ids) // granule) * granule
        if batch and size > room:
            yield batch
            batch, room = [], most_tokens
        batch.append(ids)
        room -= size
    if batch:
        yield batch
