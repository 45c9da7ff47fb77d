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
        logprobs = log_softmax(all_logits(model, case.ids))
        rows = [(len(case.ids) - 1, case.top10_last), *enumerate(case.top3_each)]
        for row, pairs in rows:
            differences.extend(abs(float(logprobs[row, token]) - want) for token, want in pairs)
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
    """Fed the reference's tokens one by one, the model chooses the same wherever it is sure."""
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
    logprobs = log_softmax(all_logits(model, case.ids)[:-1])
    nll = -float(np.mean(logprobs[np.arange(len(case.ids) - 1), case.ids[1:]]))
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
    return np.empty((0, model.spec.vocab_size), np.float32) if logits is None else logits


def log_softmax(logits: FloatArray) -> npt.NDArray[np.float64]:
    """Log-probabilities of each row, in float64."""
    exact = logits.astype(np.float64)
    exact -= exact.max(axis=-1, keepdims=True)
    return np.asarray(exact - np.log(np.exp(exact).sum(axis=-1, keepdims=True)))


def stepwise_logits(
    model: LoadedModel, prompt_ids: Sequence[int], ids: Sequence[int]
) -> Iterable[FloatArray]:
    """Logits after the prompt, and after each of ``ids`` but the last, through the KV cache."""
    cache = model.runner.new_cache(len(prompt_ids) + len(ids))
    for tokens in (prompt_ids, *([token] for token in ids[:-1])):
        chunk = Chunk(np.asarray(tokens, np.int64), cache, LogitsWanted.LAST)
        (logits,) = model.runner.forward([chunk])
        if logits is not None:
            yield logits


def _missed_margins(model: LoadedModel, cases: Sequence[GreedyCase]) -> tuple[list[float], int]:
    """The reference's margins where the model chose another token, and the number of steps.

    Files without margins get the model's own: how much surer it is of its choice.
    """
    missed: list[float] = []
    steps = 0
    for case in cases:
        for step, logits in enumerate(stepwise_logits(model, case.prompt_ids, case.ids)):
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
