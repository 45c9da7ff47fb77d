"""What a step returns: rows of hidden states, and the logits made of them."""

# T tokens of a chunk, C width, R wanted rows, V vocabulary

from __future__ import annotations

from collections.abc import Callable, Sequence

from smallmind_engine.kernels.backend import Chunk, LogitsWanted, Output, best_of
from smallmind_engine.kernels.spec import FloatArray
from smallmind_engine.telemetry.errors import UnsupportedModelError
from smallmind_engine.telemetry.reasons import ReasonCode

RowWork = Callable[[FloatArray], FloatArray]


def rows_wanted(chunk: Chunk) -> int:
    """How many of a chunk's last rows are needed."""
    return {
        LogitsWanted.NONE: 0,
        LogitsWanted.LAST: 1,
        LogitsWanted.BEST: 1,
        LogitsWanted.ALL: len(chunk.token_ids),
        LogitsWanted.HIDDEN: len(chunk.token_ids),
    }[chunk.logits]


def logit_rows(chunks: Sequence[Chunk]) -> int:
    """How many rows of logits a step has to compute."""
    return sum(rows_wanted(c) for c in chunks if c.logits is not LogitsWanted.HIDDEN)


def check_encodes(chunk: Chunk) -> None:
    """Raise unless a chunk asks for what an encoder can give.

    Raises:
        UnsupportedModelError: it asks for logits, or goes on after other tokens.
    """
    if chunk.logits not in {LogitsWanted.HIDDEN, LogitsWanted.NONE} or chunk.cache.length:
        raise UnsupportedModelError(
            ReasonCode.MODEL_CANNOT_GENERATE,
            "the model is an encoder: it reads whole texts, and predicts no next token",
            hint="use engine.embed(), or load a model that generates",
        )


def outputs_of(
    chunks: Sequence[Chunk], x: FloatArray, norm: RowWork, project: RowWork
) -> list[Output]:
    """What each chunk asked for.

    Args:
        chunks: of the step.
        x: the residual stream behind the last layer, all chunks' rows one after the other.
        norm: the last norm, of rows of shape (R, C), in place.
        project: logits of such rows, shape (R, V).
    """
    rows: list[int] = []
    for_logits: list[bool] = []
    begin = 0
    for chunk in chunks:
        end = begin + len(chunk.token_ids)
        count = rows_wanted(chunk)
        rows.extend(range(end - count, end))
        for_logits.extend([chunk.logits is not LogitsWanted.HIDDEN] * count)
        begin = end
    if not rows:
        return [None] * len(chunks)
    states = norm(x[rows])
    logits = project(states[for_logits]) if any(for_logits) else states[:0]
    answers: list[Output] = []
    state = logit = 0
    for chunk in chunks:
        count = rows_wanted(chunk)
        if chunk.logits is LogitsWanted.HIDDEN:
            answers.append(states[state : state + count].copy())
        else:
            answers.append(_answer(chunk, logits[logit : logit + count]))
            logit += count
        state += count
    return answers


def _answer(chunk: Chunk, part: FloatArray) -> Output:
    if chunk.logits is LogitsWanted.NONE:
        return None
    if chunk.logits is LogitsWanted.BEST:
        return best_of(part[0])
    if chunk.logits is LogitsWanted.ALL:
        return part
    last: FloatArray = part[0]
    return last
