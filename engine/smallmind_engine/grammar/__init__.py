"""Structured output: what an answer is to look like, and the grammar that it is held to.

``formats`` says what may be asked for, ``lark`` writes it as a grammar, ``llguidance_library`` has
the library that follows it, and ``GrammarCache`` keeps what was compiled.
"""

from smallmind_engine.grammar.cache import CompiledGrammar, GrammarCache
from smallmind_engine.grammar.formats import (
    KINDS,
    RESPONSE_FORMATS,
    Choice,
    Forms,
    Grammar,
    JsonObject,
    JsonSchema,
    Regex,
    ResponseFormat,
    from_record,
    to_record,
)

__all__ = [
    "KINDS",
    "RESPONSE_FORMATS",
    "Choice",
    "CompiledGrammar",
    "Forms",
    "Grammar",
    "GrammarCache",
    "JsonObject",
    "JsonSchema",
    "Regex",
    "ResponseFormat",
    "from_record",
    "to_record",
]
