"""GBNF, llama.cpp's notation of grammars: read, understood, and written as Lark for llguidance."""

from smallmind_engine.grammar.gbnf.nodes import Chars, Either, Node, Repeat, RuleRef, Series
from smallmind_engine.grammar.gbnf.parser import GbnfError, read_gbnf
from smallmind_engine.grammar.gbnf.writer import gbnf_to_lark

__all__ = [
    "Chars",
    "Either",
    "GbnfError",
    "Node",
    "Repeat",
    "RuleRef",
    "Series",
    "gbnf_to_lark",
    "read_gbnf",
]
