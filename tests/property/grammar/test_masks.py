"""A mask allows exactly what some text of the grammar goes on with: held against slow oracles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import regex
from hypothesis import example, given, settings
from hypothesis import strategies as st

from smallmind_engine.grammar import Choice, Grammar, GrammarCache, Regex, ResponseFormat
from smallmind_engine.telemetry import InferenceError, ReasonCode
from smallmind_engine.telemetry.errors import ConfigError
from smallmind_engine.tokenizers import Tokenizer, TokenizerFactory
from tiny_encoders import bert_metadata, bert_vocabulary
from tokenizer_models import bpe_metadata, spm_metadata, unigram_metadata

TOKENIZERS: dict[str, Tokenizer] = {
    "bpe": TokenizerFactory.create(bpe_metadata()),
    "spm": TokenizerFactory.create(spm_metadata()),
    "unigram": TokenizerFactory.create(unigram_metadata()),
    "wordpiece": TokenizerFactory.create(bert_metadata()),
    "wordpiece-hashed": TokenizerFactory.create(bert_metadata(bert_vocabulary())),
}
CACHES = {name: GrammarCache(tokenizer) for name, tokenizer in TOKENIZERS.items()}
STEPS = 4


def held_against(
    tokenizer: str,
    wanted: ResponseFormat,
    viable: Callable[[bytes], bool],
    whole: Callable[[bytes], bool],
    draws: Sequence[int],
) -> None:
    """Walk a random path of allowed tokens; at each step look at all tokens of the vocabulary."""
    tokens = TOKENIZERS[tokenizer]
    try:
        constraint = CACHES[tokenizer].compiled(wanted).constraint()
    except ConfigError:  # refused before a request is queued: nothing may begin
        pieces = (tokens.token_bytes(i, skip_special=True) for i in range(tokens.vocab_size))
        assert not any(piece and viable(piece) for piece in pieces)
        return
    text = b""
    for draw in draws:
        stuck: ReasonCode | None = None
        try:
            allowed = constraint.allowed()
        except InferenceError as error:  # the vocabulary cannot spell what is to follow
            allowed, stuck = np.zeros(tokens.vocab_size, np.bool_), error.reason
        assert allowed.shape == (tokens.vocab_size,)
        assert constraint.complete == whole(text)
        may = []
        for token_id in range(tokens.vocab_size):
            piece = tokens.token_bytes(token_id, skip_special=True)
            if token_id in tokens.eog_ids:
                expected = whole(text)
            else:
                expected = bool(piece) and viable(text + piece)
                may += [token_id] if expected else []
            assert expected == bool(allowed[token_id]), (text, piece, token_id)
        if not may:
            return
        assert stuck is None
        chosen = may[draw % len(may)]
        constraint.accept(chosen)
        text += tokens.token_bytes(chosen, skip_special=True)


PATHS = st.lists(st.integers(0, 10_000), min_size=STEPS, max_size=STEPS)


# -- choices: in bytes, so that halves of characters are looked at too -----------------------------

CHOICES = st.lists(st.text('abcé😀 \n"\\/<>', min_size=1, max_size=6), min_size=1, max_size=6)


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
@settings(max_examples=25)
@given(choices=CHOICES, path=PATHS)
@example(choices=["ab", "a", "abc"], path=[0, 0, 0, 0])
@example(choices=["<tool>", "<|endoftext|>", "</s>"], path=[1, 2, 3, 4])
def test_a_choice_allows_every_way_to_spell_it(
    tokenizer: str, choices: list[str], path: list[int]
) -> None:
    encoded = [choice.encode() for choice in choices]
    held_against(
        tokenizer,
        Choice(choices),
        lambda text: any(each.startswith(text) for each in encoded),
        lambda text: text in encoded,
        path,
    )


# -- regular expressions: held against partial matches of `regex` ----------------------------------


def _repeated(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    times = st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "{2,}"])
    return st.builds(lambda body, sign: f"(?:{body}){sign}", inner, times)


PATTERNS = st.recursive(
    st.sampled_from(["a", "b", "c", "ab", "[ab]", "[^a]", " ", "[0-9]", ".", "/"]),
    lambda inner: st.one_of(
        st.builds("".join, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda parts: f"(?:{'|'.join(parts)})", st.lists(inner, min_size=2, max_size=3)),
        _repeated(inner),
    ),
    max_leaves=6,
)


def _partly(pattern: str) -> Callable[[bytes], bool]:
    compiled = regex.compile(pattern)

    def viable(text: bytes) -> bool:
        return any(compiled.fullmatch(known, partial=True) is not None for known in _finished(text))

    return viable


def _finished(text: bytes) -> list[str]:
    """The text; where it ends within a character, with some ways to end that."""
    try:
        return [text.decode()]
    except UnicodeDecodeError as error:
        if error.end != len(text) or error.reason != "unexpected end of data":
            return []
        rests = [bytes([byte]) * count for byte in (0x80, 0x90, 0xBF) for count in (1, 2, 3)]
        known = []
        for rest in rests:
            try:
                known.append((text + rest).decode())
            except UnicodeDecodeError:
                continue
        return known


@pytest.mark.parametrize("tokenizer", ["bpe", "spm"])
@settings(max_examples=40)
@given(pattern=PATTERNS, path=PATHS)
@example(pattern="a*ab", path=[1, 1, 1, 1])
@example(pattern="(?:a|ab)(?:c|bcd)*", path=[0, 1, 2, 3])
def test_a_regular_expression_allows_what_may_still_match(
    tokenizer: str, pattern: str, path: list[int]
) -> None:
    compiled = regex.compile(pattern)
    held_against(
        tokenizer,
        Regex(pattern),
        _partly(pattern),
        lambda text: any(compiled.fullmatch(known) for known in _decoded(text)),
        path,
    )


def _decoded(text: bytes) -> list[str]:
    try:
        return [text.decode()]
    except UnicodeDecodeError:
        return []


# -- GBNF: held against the sets of all short texts and beginnings, by definition ------------------

SHORT = 5


@dataclass(frozen=True)
class Texts:
    """Texts of at most ``SHORT`` characters, and beginnings of any, of that length at most."""

    whole: frozenset[str]
    begun: frozenset[str]


def _then(left: Texts, right: Texts) -> Texts:
    return Texts(
        frozenset(a + b for a in left.whole for b in right.whole if len(a + b) <= SHORT),
        left.begun | {(a + b)[:SHORT] for a in left.whole for b in right.begun},
    )


def _either(parts: Sequence[Texts]) -> Texts:
    return Texts(
        frozenset().union(*(part.whole for part in parts)),
        frozenset().union(*(part.begun for part in parts)),
    )


NOTHING = Texts(frozenset(), frozenset())
EMPTY = Texts(frozenset({""}), frozenset({""}))
Rules = dict[str, object]


def _texts(node: object, rules: dict[str, Texts]) -> Texts:
    match node:
        case ("chars", chars):
            return Texts(frozenset(chars), frozenset({"", *chars}))
        case ("rule", name):
            return rules[name]
        case ("series", *parts):
            found = EMPTY
            for part in parts:
                found = _then(found, _texts(part, rules))
            return found
        case ("either", *parts):
            return _either([_texts(part, rules) for part in parts])
        case ("repeat", body, least, most):
            inner = _texts(body, rules)
            found, power = (EMPTY if least == 0 else NOTHING), EMPTY
            for count in range(1, (SHORT + 2 if most is None else most) + 1):
                power = _then(power, inner)
                kept = power if count >= least else Texts(frozenset(), power.begun)
                found = _either([found, kept])
            return found
    raise AssertionError(node)


def _written(node: object) -> str:
    match node:
        case ("chars", chars):
            return f'"{chars}"' if len(chars) == 1 else f"[{chars}]"
        case ("rule", name):
            return str(name)
        case ("series", *parts):
            return f"({' '.join(_written(part) for part in parts)})"
        case ("either", *parts):
            return f"({' | '.join(_written(part) for part in parts)})"
        case ("repeat", body, least, most):
            return f"{_written(body)}{{{least},{'' if most is None else most}}}"
    raise AssertionError(node)


NODES = st.recursive(
    st.one_of(
        st.sampled_from(["a", "b", "ab", "bc"]).map(lambda chars: ("chars", chars)),
        st.sampled_from(["root", "other"]).map(lambda name: ("rule", name)),
    ),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: ("series", *parts)),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: ("either", *parts)),
        st.tuples(
            st.just("repeat"),
            inner,
            st.integers(0, 2),
            st.one_of(st.none(), st.integers(2, 3)),
        ),
    ),
    max_leaves=5,
)


def _solved(rules: Rules) -> dict[str, Texts]:
    found = dict.fromkeys(rules, NOTHING)
    while True:
        more = {name: _texts(node, found) for name, node in rules.items()}
        if more == found:
            return found
        found = more


CA = ("series", ("chars", "c"), ("chars", "a"))
A_STAR_AB = ("series", ("repeat", ("chars", "a"), 0, None), ("chars", "a"), ("chars", "b"))


@settings(max_examples=150)
@given(root=NODES, other=NODES, path=PATHS)
@example(root=A_STAR_AB, other=("chars", "a"), path=[0, 0, 0, 0])
@example(
    root=("either", ("repeat", ("chars", "a"), 0, None), ("repeat", ("rule", "other"), 0, None)),
    other=("chars", "b"),
    path=[0, 0, 0, 0],
)
@example(
    root=("series", ("rule", "other"), ("rule", "other")),
    other=("repeat", ("chars", "ab"), 1, None),
    path=[0, 0, 0, 0],
)
@example(
    root=(
        "repeat",
        ("either", ("chars", "ab"), ("series", ("chars", "c"), ("chars", "a"))),
        0,
        None,
    ),
    other=("chars", "a"),
    path=[0, 1, 2, 3],
)
def test_a_grammar_allows_what_some_text_of_it_goes_on_with(
    root: object, other: object, path: list[int]
) -> None:
    # Each rule gets an option without rules, so that every beginning has an end.
    rules: Rules = {
        "root": ("either", root, ("chars", "c")),
        "other": ("either", other, ("chars", "a")),
    }
    found = _solved(rules)["root"]
    text = "\n".join(f"{name} ::= {_written(node)}" for name, node in rules.items())

    def viable(beginning: bytes) -> bool:
        known = _decoded(beginning)
        # Beginnings that are longer than the oracle's are not walked to: see ``SHORT``.
        return bool(known) and known[0] in found.begun

    tokenizer = TOKENIZERS["spm"]
    pieces = [tokenizer.token_bytes(i, skip_special=True) for i in range(tokenizer.vocab_size)]
    constraint = CACHES["spm"].compiled(Grammar(text)).constraint()
    begun = b""
    for draw in path:
        allowed = constraint.allowed()
        assert constraint.complete == (begun.decode() in found.whole)
        assert bool(allowed[tokenizer.eos_id]) == constraint.complete
        near = [(i, t) for i, t in enumerate(pieces) if t and len(begun + t) <= SHORT]
        for token_id, piece in near:
            assert bool(allowed[token_id]) == viable(begun + piece), (text, begun, piece)
        may = [(i, t) for i, t in near if allowed[i]]
        if not may:
            return
        token_id, piece = may[draw % len(may)]
        constraint.accept(token_id)
        begun += piece


def test_the_mask_is_of_plain_booleans() -> None:
    constraint = CACHES["bpe"].compiled(Choice(["a"])).constraint()
    assert constraint.allowed().dtype == np.bool_
