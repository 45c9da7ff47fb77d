"""Nobody finds what they may not see: 10,000 random cases, and a leak in none of them."""

from __future__ import annotations

import random
import re

import pytest

from rag_indexes import open_index
from smallmind.rag import (
    PromptOptions,
    RagError,
    RetrievalMode,
    RetrievalOptions,
    TextDocument,
    TextSource,
    UserContext,
)
from smallmind.rag._prompt import compose

LABELS = ("staff", "hr", "board", "legal", "ops")
WORDS = ("amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heath")
DOCUMENTS = 50
CASES = 10_000
EVERYTHING = 10 * DOCUMENTS


def seeded(seed):
    return random.Random(seed)  # noqa: S311 - random tests, the same each time


def secret(number):
    return f"zq{number:03}x"


def library(rng):
    """Documents of random words with a secret word each, and random labels."""
    made = []
    for number in range(DOCUMENTS):
        labels = frozenset(rng.sample(LABELS, rng.choice((0, 0, 1, 1, 2, 3))))
        words = " ".join(rng.choices(WORDS, k=12))
        made.append(TextDocument(f"{number}.txt", f"{words} {secret(number)}.", labels))
    return made


def some_user(rng):
    if rng.random() < 0.15:
        return None
    return UserContext(f"u{rng.random()}", frozenset(rng.sample(LABELS, rng.randint(0, 5))))


def may(user, document):
    """The rule, said again in other words."""
    if not document.labels:
        return True
    return user is not None and all(label in user.labels for label in document.labels)


def prompt_of(question, chunks, user, index):
    return compose(
        question,
        chunks,
        user=user,
        authorizer=index.authorizer,
        options=PromptOptions(),
        max_tokens=10**9,
        count=lambda system, message: len(message),
        harmless=lambda text: text,
    ).message


def check(rng, index, documents, user, question, mode, top_k):
    result = index.retrieve(
        question,
        user=user,
        options=RetrievalOptions(mode=mode, top_k=top_k, depth=EVERYTHING, max_bytes=10**9),
    )
    seen = {chunk.source for chunk in result.chunks}
    visible = {document.source for document in documents if may(user, document)}
    assert seen <= visible
    assert all(may(user, chunk) for chunk in result.chunks)
    shown = re.findall(r"zq\d{3}x", prompt_of("?", result.chunks, user, index))
    assert {f"{int(word[2:5])}.txt" for word in shown} == seen
    return seen, visible


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    documents = library(seeded(1))
    with open_index(tmp_path_factory.mktemp("access")) as index:
        index.update(TextSource(documents))
        yield index, documents


@pytest.mark.parametrize("mode", RetrievalMode)
def test_a_search_for_everything_gives_exactly_what_the_user_may_see(shelf, mode):
    """Each search is a case for each document: 10,000 with the three modes."""
    index, documents = shelf
    rng = seeded(2)
    for _ in range(CASES // DOCUMENTS // 3 + 1):
        user = some_user(rng)
        question = " ".join((*rng.sample(WORDS, 8), secret(rng.randrange(DOCUMENTS))))
        seen, visible = check(rng, index, documents, user, question, mode, EVERYTHING)
        assert seen == visible


@pytest.mark.slow
def test_ten_thousand_single_searches_leak_nothing(shelf):
    index, documents = shelf
    rng = seeded(3)
    refused = 0
    for _ in range(CASES):
        user, document = some_user(rng), rng.choice(documents)
        question = f"{secret(int(document.source.partition('.')[0]))} {rng.choice(WORDS)}"
        mode, top_k = rng.choice(list(RetrievalMode)), rng.randint(1, 8)
        seen, _ = check(rng, index, documents, user, question, mode, top_k)
        refused += not may(user, document)
        assert may(user, document) or document.source not in seen
    assert refused > CASES // 5


def test_a_prompt_refuses_what_was_found_for_someone_else(shelf):
    index, _ = shelf
    everything = UserContext("root", frozenset(LABELS))
    found = index.retrieve(" ".join(WORDS), user=everything).chunks
    closed = [chunk for chunk in found if chunk.labels]
    assert closed
    with pytest.raises(RagError, match="may not see"):
        prompt_of("?", closed, UserContext("eve"), index)
