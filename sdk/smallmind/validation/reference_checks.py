"""Checks against a golden file, one function a section."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from smallmind._chat_template import render_chat
from smallmind.validation.golden import (
    ChatCase,
    GreedyCase,
    LogprobCase,
    PerplexityCase,
    TokenizeCase,
    Tolerances,
)
from smallmind.validation.report import ValidationCheck
from smallmind_engine.kernels import Chunk, FloatArray, LogitsWanted
from smallmind_engine.model import LoadedModel

_ALL_THE_SAME = "all the same"
_ROWS_AT_ONCE = 64


def check_tokenize(model: LoadedModel, cases: Sequence[TokenizeCase]) -> ValidationCheck:
    """Ids are the reference's, and stand for the text that it says."""
    wrong = []
    for case in cases:
        ids = model.tokenizer.encode(case.text, add_special=False, parse_special=case.parse_special)
        if ids != case.ids:
            wrong.append(f"{case.text!r}: ids {ids}, expected {case.ids}")
        elif model.tokenizer.decode(case.ids) != case.detokenized:
            wrong.append(f"{case.text!r}: its ids do not decode to {case.detokenized!r}")
    return _count("tokenize", wrong, len(cases), "texts")


def check_logprobs(
    model: LoadedModel, cases: Sequence[LogprobCase], limits: Tolerances
) -> ValidationCheck:
    """Log-probabilities are near the reference's, over all ids that it lists."""
    differences: list[float] = []
    for case in cases:
        logits = all_logits(model, case.ids)
        norms = log_normalisers(logits)
        rows = [(len(case.ids) - 1, case.top10_last), *enumerate(case.top3_each)]
        for row, pairs in rows:
            differences.extend(
                abs(float(logits[row, token]) - float(norms[row]) - want) for token, want in pairs
            )
    return ValidationCheck(
        "logprobs",
        float(np.mean(differences)),
        limits.logprob,
        "nats, mean difference",
        f"{len(differences)} log-probabilities, largest difference {max(differences):.4g}",
    )


def check_greedy(
    model: LoadedModel, cases: Sequence[GreedyCase], limits: Tolerances
) -> ValidationCheck:
    """Fed the reference's tokens, the model chooses the same wherever it is sure."""
    missed, steps = _missed_margins(model, cases)
    return ValidationCheck(
        "greedy",
        max(missed, default=0.0),
        limits.margin,
        "logits, largest missed margin",
        f"{steps} steps, {len(missed)} chosen differently",
    )


def check_perplexity(
    model: LoadedModel, case: PerplexityCase, limits: Tolerances
) -> ValidationCheck:
    """The mean negative log-likelihood of a text is near the reference's."""
    total = 0.0
    cache = model.runner.new_cache(len(case.ids))
    for begin in range(0, len(case.ids) - 1, _ROWS_AT_ONCE):
        known = case.ids[begin : min(begin + _ROWS_AT_ONCE, len(case.ids) - 1)]
        chunk = Chunk(np.asarray(known, np.int64), cache, LogitsWanted.ALL)
        (logits,) = model.runner.forward([chunk])
        if isinstance(logits, np.ndarray):
            following = case.ids[begin + 1 : begin + 1 + len(known)]
            chosen = logits[np.arange(len(known)), following]
            total += float((log_normalisers(logits) - chosen).sum())
    nll = total / (len(case.ids) - 1)
    return ValidationCheck(
        "perplexity",
        abs(nll / case.mean_nll - 1.0),
        limits.nll,
        "relative difference",
        f"{len(case.ids)} tokens, {nll:.5f} nats a token, reference {case.mean_nll:.5f}",
    )


def check_chat(
    model: LoadedModel, cases: Sequence[ChatCase], limits: Tolerances
) -> Iterable[ValidationCheck]:
    """Conversations become the reference's prompts, and go on as it says."""
    wrong = []
    for case in cases:
        prompt = _render(model, case)
        if prompt != case.greedy.prompt:
            wrong.append(f"prompt {prompt!r}, expected {case.greedy.prompt!r}")
        elif (
            model.tokenizer.encode(prompt, add_special=False, parse_special=True)
            != case.greedy.prompt_ids
        ):
            wrong.append(f"ids of {prompt!r} differ")
    yield _count("chat prompts", wrong, len(cases), "conversations")
    missed, steps = _missed_margins(model, [case.greedy for case in cases])
    yield ValidationCheck(
        "chat greedy",
        max(missed, default=0.0),
        limits.margin,
        "logits, largest missed margin",
        f"{steps} steps, {len(missed)} chosen differently",
    )


def all_logits(model: LoadedModel, ids: Sequence[int]) -> FloatArray:
    """Logits after each token of ``ids``, shape (T, V)."""
    cache = model.runner.new_cache(len(ids))
    chunk = Chunk(np.asarray(ids, np.int64), cache, LogitsWanted.ALL)
    (logits,) = model.runner.forward([chunk])
    none = np.empty((0, model.spec.vocab_size), np.float32)
    return logits if isinstance(logits, np.ndarray) else none


def log_normalisers(logits: FloatArray) -> npt.NDArray[np.float64]:
    """Logarithm of the sum of exponentials of each row: shape (T, V) to (T,), float64."""
    highest = logits.max(axis=-1, keepdims=True)
    sums = np.exp(logits - highest).sum(axis=-1, dtype=np.float64)
    return np.asarray(highest[:, 0] + np.log(sums))


def stepwise_logits(
    model: LoadedModel, prompt_ids: Sequence[int], ids: Sequence[int]
) -> Iterable[FloatArray]:
    """Logits after the prompt, and after each of ``ids`` but the last, through the KV cache."""
    cache = model.runner.new_cache(len(prompt_ids) + len(ids))
    for tokens in (prompt_ids, *([token] for token in ids[:-1])):
        chunk = Chunk(np.asarray(tokens, np.int64), cache, LogitsWanted.LAST)
        (logits,) = model.runner.forward([chunk])
        if isinstance(logits, np.ndarray):
            yield logits


def _missed_margins(model: LoadedModel, cases: Sequence[GreedyCase]) -> tuple[list[float], int]:
    """The reference's margins where the model chose another token, and the number of steps.

    The first case goes step by step through the KV cache, as generation does; the others go
    through the model at once, which is many times faster. Files without margins get the model's
    own: how much surer it is of its choice.
    """
    missed: list[float] = []
    steps = 0
    for number, case in enumerate(cases):
        rows = (
            stepwise_logits(model, case.prompt_ids, case.ids)
            if number == 0
            else all_logits(model, [*case.prompt_ids, *case.ids[:-1]])[len(case.prompt_ids) - 1 :]
        )
        for step, logits in enumerate(rows):
            steps += 1
            chosen = int(logits.argmax())
            expected = case.ids[step]
            if chosen == expected:
                continue
            own = float(logits[chosen] - logits[expected])
            missed.append(case.margins[step] if case.margins else own)
    return missed, steps


def _render(model: LoadedModel, case: ChatCase) -> str:
    tokenizer = model.tokenizer
    bos, eos = tokenizer.bos_id, tokenizer.eos_id
    return render_chat(
        model.chat_template or "",
        case.messages,
        bos_token="" if bos is None else tokenizer.token_text(bos),
        eos_token="" if eos is None else tokenizer.token_text(eos),
        add_generation_prompt=True,
    )


def _count(name: str, wrong: Sequence[str], total: int, what: str) -> ValidationCheck:
    detail = f"{total} {what}, {wrong[0] if wrong else _ALL_THE_SAME}"
    return ValidationCheck(name, float(len(wrong)), 0.0, "wrong", detail)
