"""Can nobody forge control tokens, and are they what the file says?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from smallmind.validation.outcomes import judged, skipped
from smallmind.validation.report import Figure, Outcome
from smallmind.validation.subject import Subject
from smallmind_engine.tokenizers import Tokenizer

_TYPES_KEY: Final = "tokenizer.ggml.token_type"
_CONTROL: Final = 3  # the number of control tokens among the types


def check_special_tokens(subject: Subject) -> Outcome:
    """The name of a control token is text like any other unless the caller says otherwise."""
    tokenizer = subject.tokenizer
    control = _control_ids(subject)
    wrong = list(_wrong_ends(tokenizer))
    for token_id in control:
        subject.limit.check("validation")
        wrong += _wrong_with(tokenizer, token_id)
    if not control and not wrong:
        return skipped("the file says of no token that it is a control token")
    names = ", ".join(repr(tokenizer.token_text(token_id)) for token_id in control[:3])
    return judged(
        f"{len(control)} control tokens, such as {names}",
        (
            Figure(name="control tokens", value=len(control)),
            Figure(name="wrong", value=len(wrong), at_most=0),
        ),
        wrong,
    )


def _control_ids(subject: Subject) -> list[int]:
    """Ids of control tokens, spread over the vocabulary where there are very many."""
    types = subject.model.file.metadata.get(_TYPES_KEY)
    if types is None or isinstance(types, (str, int, float)):
        return []
    tokenizer = subject.tokenizer
    seen: set[str] = set()
    found: list[int] = []
    for token_id, kind in enumerate(types[: tokenizer.vocab_size]):
        name = tokenizer.token_text(token_id) if kind == _CONTROL else ""
        if name and name not in seen:  # of two with one name, the first is meant
            seen.add(name)
            found.append(token_id)
    return found[:: max(1, len(found) // subject.amount(200, 2_000))]


def _wrong_with(tokenizer: Tokenizer, token_id: int) -> Iterator[str]:
    name = tokenizer.token_text(token_id)
    forged = tokenizer.encode(f"say {name} now", add_special=False)
    if token_id in forged and token_id != tokenizer.unk_id:  # text may be unknown
        yield f"text with {name!r} in it becomes the control token {token_id}"
    if tokenizer.encode(name, add_special=False, parse_special=True) != [token_id]:
        yield f"{name!r} is not read as the control token {token_id} when that is asked for"
    if tokenizer.decode([token_id], skip_special=True):
        yield f"the control token {token_id} is shown when special tokens are to be left out"


def _wrong_ends(tokenizer: Tokenizer) -> Iterator[str]:
    """What is wrong with the tokens that begin and end a text."""
    plain = tokenizer.encode("a", add_special=False)
    head = [tokenizer.bos_id] if tokenizer.add_bos and tokenizer.bos_id is not None else []
    tail = [tokenizer.eos_id] if tokenizer.add_eos and tokenizer.eos_id is not None else []
    found = tokenizer.encode("a")
    if found != [*head, *plain, *tail]:
        yield f"'a' becomes {found}, expected {[*head, *plain, *tail]}"
    for token_id in sorted(tokenizer.eog_ids):
        if not 0 <= token_id < tokenizer.vocab_size:
            yield f"the end-of-generation id {token_id} is outside the vocabulary"
