"""Do texts, and the tokens of the vocabulary, come back from their ids?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from smallmind.validation.checks.losses import Return, round_trip
from smallmind.validation.checks.texts import TEXTS
from smallmind.validation.outcomes import judged
from smallmind.validation.report import Figure, Outcome
from smallmind.validation.subject import Subject

_REPLACEMENT = "\ufffd"


def check_round_trip(subject: Subject) -> Outcome:
    """Every text comes back, but for what the tokenizer cannot give back by its design."""
    tokenizer, limit = subject.tokenizer, subject.limit
    counts: Counter[Return] = Counter()
    wrong: list[str] = []
    designed: Counter[str] = Counter()
    texts = [*TEXTS, *_texts_of_tokens(subject)]
    for text in texts:
        result = round_trip(tokenizer, text, limit)
        counts[result.how] += 1
        if result.how is Return.WRONG:
            wrong.append(result.told)
        elif result.how is Return.BY_DESIGN:
            designed[result.told] += 1
    lost = ", ".join(f"{count} because {why}" for why, count in designed.most_common(3))
    return judged(
        f"{counts[Return.EXACT]} of {len(texts)} texts come back exactly by the {tokenizer.kind}"
        f" tokenizer" + (f"; others not, by design: {lost}" if lost else ""),
        (
            Figure(name="texts", value=len(texts)),
            Figure(name="exact", value=counts[Return.EXACT]),
            Figure(name="by design", value=counts[Return.BY_DESIGN]),
            Figure(name="wrong", value=counts[Return.WRONG], at_most=0),
        ),
        wrong,
    )


def _texts_of_tokens(subject: Subject) -> Iterator[str]:
    """What single tokens stand for, where that is text; tokens spread over the vocabulary."""
    tokenizer = subject.tokenizer
    step = max(1, tokenizer.vocab_size // subject.amount(1_000, 20_000))
    for token_id in range(0, tokenizer.vocab_size, step):
        if tokenizer.token_bytes(token_id, skip_special=True):
            text = tokenizer.decode([token_id])
            if _REPLACEMENT not in text:
                yield text
