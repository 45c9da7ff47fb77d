"""Every response format as a grammar in llguidance's dialect of Lark."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from smallmind_engine.grammar.formats import (
    Choice,
    Forms,
    Grammar,
    JsonObject,
    JsonSchema,
    Regex,
    ResponseFormat,
    unusable,
)
from smallmind_engine.grammar.gbnf import GbnfError, gbnf_to_lark
from smallmind_engine.grammar.schemas import check_schema
from smallmind_engine.tokenizers import Tokenizer

# Where only one text can follow, llguidance would allow the tokenizer's own cut of it alone, and
# would have to ask the tokenizer for it. Without that it allows what the grammar allows.
_HEADER: Final = '%llguidance {"no_forcing": true}\n'

_COMPACT: Final = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
}
_FLEXIBLE: Final = {"whitespace_flexible": True}


def lark_of(wanted: ResponseFormat, tokenizer: Tokenizer) -> str:
    """The grammar of a response format.

    Args:
        wanted: see there.
        tokenizer: knows the control tokens in ``Forms``.

    Raises:
        ConfigError: it cannot be followed.
        MissingExtraError: ``jsonschema`` is not installed.
    """
    return _HEADER + _WRITERS[wanted.kind](wanted, tokenizer)


def _json_schema(wanted: JsonSchema, _: Tokenizer) -> str:
    return f"start: {_schema(wanted)}\n"


def _json_object(wanted: JsonObject, _: Tokenizer) -> str:
    return f"start: {_schema(JsonSchema({'type': 'object'}, whitespace=wanted.whitespace))}\n"


def _regex(wanted: Regex, _: Tokenizer) -> str:
    return f"start: /{_in_slashes(wanted.pattern)}/\n" if wanted.pattern else 'start: ""\n'


def _choice(wanted: Choice, _: Tokenizer) -> str:
    return f"start: CHOICE\nCHOICE: {' | '.join(_literal(each) for each in wanted.choices)}\n"


def _grammar(wanted: Grammar, _: Tokenizer) -> str:
    try:
        return gbnf_to_lark(wanted.gbnf)
    except GbnfError as error:
        raise unusable(
            wanted.kind,
            str(error),
            wanted.gbnf,
            where=error.where,
            hint='a rule is written: root ::= "yes" | "no" | [0-9]+',
        ) from error


def _forms(wanted: Forms, tokenizer: Tokenizer) -> str:
    forms = (
        " ".join(
            _with_control_tokens(part, tokenizer) if isinstance(part, str) else _schema(part)
            for part in form
        )
        for form in wanted.forms
    )
    rules = [f"form{number}: {form}" for number, form in enumerate(forms)]
    names = " | ".join(f"form{number}" for number in range(len(rules)))
    return "\n".join([f"start: {names}", *rules, ""])


_WRITERS: Final[Mapping[str, Callable[[Any, Tokenizer], str]]] = {
    "json_schema": _json_schema,
    "json_object": _json_object,
    "regex": _regex,
    "choice": _choice,
    "grammar": _grammar,
    "forms": _forms,
}


def _schema(wanted: JsonSchema) -> str:
    schema = json.loads(wanted.text)
    check_schema(schema)
    if schema is False:
        raise unusable(wanted.kind, "it allows no document", False)  # noqa: FBT003 - the schema
    ours = _FLEXIBLE if wanted.whitespace else _COMPACT
    whole = {} if schema is True else schema
    return f"%json {json.dumps({**whole, 'x-guidance': ours})}"


def _with_control_tokens(text: str, tokenizer: Tokenizer) -> str:
    """A text in which the names of control tokens are these tokens."""
    parts = []
    for fragment in tokenizer.special_fragments(text):
        if isinstance(fragment, str):
            parts.append(_literal(fragment))
        elif tokenizer.token_bytes(fragment, skip_special=True):
            parts.append(_literal(tokenizer.token_text(fragment)))
        else:
            parts.append(f"<[{fragment}]>")
    return " ".join(parts)


def _literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _in_slashes(pattern: str) -> str:
    """A pattern such that neither a slash nor a line break ends it."""
    parts: list[str] = []
    escaped = False
    for char in pattern:
        if char == "\n":
            parts.append("n" if escaped else "\\n")
        elif char == "/" and not escaped:
            parts.append("\\/")
        else:
            parts.append(char)
        escaped = char == "\\" and not escaped
    return "".join(parts)
