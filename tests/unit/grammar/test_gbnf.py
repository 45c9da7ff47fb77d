"""GBNF is read as llama.cpp reads it, and refused with the place of what is wrong."""

from __future__ import annotations

import pytest

from smallmind_engine.grammar import Grammar, GrammarCache
from smallmind_engine.grammar.gbnf import GbnfError, gbnf_to_lark
from smallmind_engine.tokenizers import TokenizerFactory
from tokenizer_models import bpe_metadata

CACHE = GrammarCache(TokenizerFactory.create(bpe_metadata()))


def fits(grammar: str, text: str) -> bool:
    return CACHE.compiled(Grammar(grammar)).matches(text)


FITTING = [
    ('root ::= "a"', "a", True),
    ('root ::= "a"', "", False),
    ("root ::= [a-c]+", "abcabc", True),
    ("root ::= [^a-c]", "d", True),
    ("root ::= [^a-c]", "b", False),
    ("root ::= [a-]+", "-a-", True),
    (r'root ::= "\x41\u00e9\U0001F600\n\t\\\""', 'Aé😀\n\t\\"', True),
    (r"root ::= [\]\[\\^]+", "][\\^", True),
    ("root ::= .", "\n", True),
    ("root ::= .", "😀", True),
    ("root ::= [à-ü]+", "éü", True),
    ('root ::= ("a" | "b")* "c"', "abac", True),
    ('root ::= "a"{2}', "aa", True),
    ('root ::= "a"{2}', "aaa", False),
    ('root ::= "a"{2,}', "aaaaa", True),
    ('root ::= "a"{1,2} "a"', "aaa", True),
    ('root ::= "a"{0} "b"', "b", True),
    ('root ::= "a"?', "", True),
    ('root ::= "a"+ "a"', "aaa", True),
    ('root ::= "a"* "ab"', "aab", True),
    ('root ::= x x\nx ::= "a"+', "aa", True),
    ('root ::= "ab" | [a-z] "c"', "ac", True),
    ('root ::= "if" | [a-z]+', "iffy", True),
    ("root ::= ", "", True),
    ('root ::= "a" |', "", True),
    ('root ::= "(" root ")" | ""', "((()))", True),
    ('root ::= "(" root ")" | ""', "((())", False),
    ('root ::= root "a" | "b"', "baaa", True),  # from the left, which llama.cpp refuses
    ('# of all\nroot ::= # begins\n  "a" # ends\n\n# more\n', "a", True),
    ('root ::= (\n "a"\n  | "b"\n)', "b", True),
    ('root ::= "a"\n  | "b"\n  | other\nother ::= "c"', "c", True),
    ('root ::= a-b_2\na-b_2 ::= "x"', "x", True),
    ('root ::= "a"\r\nx ::= "b"\r\n', "a", True),
    ('root ::= ("a"*)*', "aaa", True),
    ('root ::= "/" [/]+', "///", True),
    ('root ::= "a" "<|endoftext|>"', "a<|endoftext|>", True),
]


@pytest.mark.parametrize(("grammar", "text", "expected"), FITTING)
def test_a_text_fits_or_not(grammar: str, text: str, *, expected: bool) -> None:
    assert fits(grammar, text) == expected


BROKEN = [
    ("", "no rule 'root'", ""),
    ('x ::= "a"', "no rule 'root'", ""),
    ("root ::= x", "'x' is used", ""),
    ('root ::= "a', "has no end", "line 1, column 10"),
    ("root ::= [a", "has no end", "line 1, column 10"),
    ("root ::= []", "no character", "line 1, column 10"),
    ("root ::= [b-a]", "ends before", "line 1, column 14"),
    (r'root ::= "\q"', r"escape \\q", "line 1, column 13"),
    (r'root ::= "\x4"', r"escape \\x", "line 1, column 13"),
    (r'root ::= "\U00110000"', "no character", "line 1, column 21"),
    (r'root ::= "\ud800"', "surrogate", "line 1, column 17"),
    ('root ::= ("a"', r"'\)' is expected", "line 1, column 14"),
    ('root ::= "a")', "begins|expected", "line 1, column 13"),
    ('root = "a"', "'::=' is expected", "line 1, column 6"),
    ('root ::= "a"\nroot ::= "b"', "already", "line 2, column 1"),
    ('root ::= "a"{2', "number of times", "line 1, column 13"),
    ('root ::= "a"{3,1}', "smaller number first", "line 1, column 13"),
    ('root ::= "a"{9999}', "2000", "line 1, column 13"),
    ("root ::= <think>", "tokens as parts", "line 1, column 10"),
    ("root ::= $", r"'\$' begins", "line 1, column 10"),
    ('root ::= "a" root', "has no end", ""),
    ('root ::= "a" | x\nx ::= "b" x', "'x' has no end", ""),
    ("root ::= " + "(" * 200, "groups", "line 1, column 111"),
    ('root ::= "a"' + "*" * 200, "repetitions", "line 1, column 113"),
]


@pytest.mark.parametrize(("grammar", "message", "where"), BROKEN)
def test_what_is_wrong_is_told_with_its_place(grammar: str, message: str, where: str) -> None:
    with pytest.raises(GbnfError, match=message) as caught:
        gbnf_to_lark(grammar)
    assert caught.value.where == where


def test_runs_that_cannot_be_taken_for_anything_else_are_one_word() -> None:
    assert "]+/" in gbnf_to_lark(r'root ::= "\"" ([^"\\] | "\\" ["\\n])* "\""')
    assert "]+/" not in gbnf_to_lark('root ::= [a-z]* "z"')
    assert "]+/" not in gbnf_to_lark('root ::= [a]+ | x+\nx ::= "a"')
