"""Does the model say what a reference says of it? One function for each part of a golden file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from smallmind._chat_template import render_chat
from smallmind.validation.golden import ChatCase, Golden, GreedyCase
from smallmind.validation.logits import (
    all_logits,
    log_normalisers,
    logits_in_pieces,
    stepwise_logits,
)
from smallmind.validation.outcomes import judged, skipped
from smallmind.validation.report import Figure, Outcome
from smallmind.validation.subject import Subject
from smallmind_engine.control import WorkLimit
from smallmind_engine.model import LoadedModel


def check_tokens(subject: Subject) -> Outcome:
    """Ids are the reference's, and stand for the text that it says."""
    return _over_goldens(subject, lambda golden: golden.tokenize, _tokens)


def check_logprobs(subject: Subject) -> Outcome:
    """Log-probabilities are near the reference's, over all ids that it lists."""
    return _over_goldens(subject, lambda golden: golden.logprobs, _logprobs)


def check_greedy(subject: Subject) -> Outcome:
    """Fed the reference's tokens, the model chooses the same wherever it is sure."""
    return _over_goldens(subject, lambda golden: golden.greedy, _greedy)


def check_perplexity(subject: Subject) -> Outcome:
    """The mean negative log-likelihood of a text is near the reference's."""
    return _over_goldens(subject, lambda golden: golden.perplexity, _perplexity)


def check_chat(subject: Subject) -> Outcome:
    """Conversations become the reference's prompts, and go on as it says."""
    return _over_goldens(subject, lambda golden: golden.chat, _chat)


Part = Callable[[Subject, Golden, list[str]], tuple[str, Iterable[Figure]]]
"""Looks at one golden file: adds what is wrong to the list, answers with a message and figures."""


def _over_goldens(subject: Subject, section: Callable[[Golden], object], part: Part) -> Outcome:
    able = [golden for golden in subject.goldens if section(golden)]
    if not subject.goldens:
        return skipped("there is no golden file for this model")
    if not able:
        return skipped("the golden files have no such part")
    figures: list[Figure] = []
    messages: list[str] = []
    wrong: list[str] = []
    for golden in able:
        subject.limit.check("validation")
        message, found = part(subject, golden, wrong)
        figures += found
        messages.append(f"{golden.path.stem}: {message}")
    return judged("; ".join(messages), figures, wrong)


def _named(golden: Golden, name: str, value: float, unit: str, limit: float | None) -> Figure:
    return Figure(name=f"{golden.path.stem} {name}", value=value, unit=unit, at_most=limit)


def _tokens(subject: Subject, golden: Golden, wrong: list[str]) -> tuple[str, list[Figure]]:
    tokenizer, before = subject.tokenizer, len(wrong)
    for case in golden.tokenize:
        ids = tokenizer.encode(case.text, add_special=False, parse_special=case.parse_special)
        if ids != case.ids:
            wrong.append(f"{case.text!r}: ids {ids}, expected {case.ids}")
        elif tokenizer.decode(case.ids) != case.detokenized:
            wrong.append(f"{case.text!r}: its ids do not decode to {case.detokenized!r}")
    figure = _named(golden, "wrong texts", len(wrong) - before, "", 0)
    return f"{len(golden.tokenize)} texts", [figure]


def _logprobs(subject: Subject, golden: Golden, _: list[str]) -> tuple[str, list[Figure]]:
    differences: list[float] = []
    for case in golden.logprobs:
        logits = all_logits(subject.model, case.ids, subject.limit)
        norms = log_normalisers(logits)
        rows = [(len(case.ids) - 1, case.top10_last), *enumerate(case.top3_each)]
        for row, pairs in rows:
            differences.extend(
                abs(float(logits[row, token]) - float(norms[row]) - want) for token, want in pairs
            )
    limits = golden.tolerances(subject.engine.backend)
    mean = float(np.mean(differences))
    return (
        f"{len(differences)} differ by {mean:.3g} nats on average, {max(differences):.3g} at most",
        [_named(golden, "mean difference", mean, "nats", limits.logprob)],
    )


def _greedy(subject: Subject, golden: Golden, _: list[str]) -> tuple[str, list[Figure]]:
    missed, steps = _missed_margins(subject, golden.greedy)
    limits = golden.tolerances(subject.engine.backend)
    return (
        f"{steps} steps, {len(missed)} chosen differently",
        [_named(golden, "missed margin", max(missed, default=0.0), "logits", limits.margin)],
    )


def _perplexity(subject: Subject, golden: Golden, _: list[str]) -> tuple[str, list[Figure]]:
    case = golden.perplexity
    if case is None:  # pragma: no cover - such files are left out before
        return "", []
    total, place = 0.0, 0
    for rows in logits_in_pieces(subject.model, case.ids[:-1], subject.limit):
        following = case.ids[place + 1 : place + 1 + len(rows)]
        chosen = rows[np.arange(len(rows)), following]
        total += float((log_normalisers(rows) - chosen).sum())
        place += len(rows)
    nll = total / (len(case.ids) - 1)
    limits = golden.tolerances(subject.engine.backend)
    return (
        f"{nll:.5f} nats a token over {len(case.ids)} tokens, reference {case.mean_nll:.5f}",
        [_named(golden, "relative difference", abs(nll / case.mean_nll - 1.0), "", limits.nll)],
    )


def _chat(subject: Subject, golden: Golden, wrong: list[str]) -> tuple[str, list[Figure]]:
    tokenizer, before = subject.tokenizer, len(wrong)
    for case in golden.chat:
        prompt = _render(subject.model, case)
        ids = tokenizer.encode(prompt, add_special=False, parse_special=True)
        if prompt != case.greedy.prompt:
            wrong.append(f"prompt {prompt!r}, expected {case.greedy.prompt!r}")
        elif ids != case.greedy.prompt_ids:
            wrong.append(f"ids of {prompt!r} differ")
    missed, steps = _missed_margins(subject, [case.greedy for case in golden.chat])
    limits = golden.tolerances(subject.engine.backend)
    return (
        f"{len(golden.chat)} conversations, {steps} steps, {len(missed)} chosen differently",
        [
            _named(golden, "wrong prompts", len(wrong) - before, "", 0),
            _named(golden, "missed margin", max(missed, default=0.0), "logits", limits.margin),
        ],
    )


def _missed_margins(subject: Subject, cases: Sequence[GreedyCase]) -> tuple[list[float], int]:
    """The reference's margins where the model chose another token, and the number of steps.

    The first case goes step by step through the KV cache, as generation does; the others go
    through the model at once, which is many times faster. Files without margins get the model's
    own: how much surer it is of its choice.
    """
    model, limit = subject.model, subject.limit
    missed: list[float] = []
    steps = 0
    for number, case in enumerate(cases):
        rows = (
            stepwise_logits(model, case.prompt_ids, case.ids, limit)
            if number == 0
            else _rows_at_once(model, case, limit)
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


def _rows_at_once(model: LoadedModel, case: GreedyCase, limit: WorkLimit) -> Iterable[np.ndarray]:
    ids = [*case.prompt_ids, *case.ids[:-1]]
    return all_logits(model, ids, limit)[len(case.prompt_ids) - 1 :]


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
