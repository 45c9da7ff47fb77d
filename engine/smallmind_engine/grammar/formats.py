"""What an answer may be asked to look like: data only, checked as far as that needs no library."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Final, Protocol, TypeAlias, runtime_checkable

from smallmind_engine.telemetry.errors import ConfigError, invalid_option
from smallmind_engine.telemetry.reasons import ReasonCode


@runtime_checkable
class SchemaModel(Protocol):
    """A class that describes itself by a JSON Schema, such as one of pydantic's models."""

    def model_json_schema(self) -> dict[str, object]:
        """Its JSON Schema."""
        ...


Schema: TypeAlias = Mapping[str, object] | bool | str | SchemaModel | type
"""A JSON Schema: as data, as JSON text, or a class that has one."""


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """A JSON document that a schema allows, its properties in the order of the schema.

    Attributes:
        schema: data, JSON text, or a class with ``model_json_schema()`` (as pydantic's have); kept
            as JSON text.
        whitespace: whether the model may put blanks and line breaks where JSON allows them; it
            writes ``{"a": 1, "b": 2}`` otherwise.

    Raises:
        ConfigError: it is no JSON object, and neither ``true`` nor ``false``.
    """

    kind: ClassVar[str] = "json_schema"

    schema: Schema
    whitespace: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "schema", _schema_text(self.schema))

    @property
    def text(self) -> str:
        """The schema as JSON."""
        return str(self.schema)


@dataclass(frozen=True, slots=True)
class JsonObject:
    """A JSON object with any content.

    Attributes:
        whitespace: as in ``JsonSchema``.
    """

    kind: ClassVar[str] = "json_object"

    whitespace: bool = False


@dataclass(frozen=True, slots=True)
class Regex:
    """A text that matches a regular expression as a whole.

    Attributes:
        pattern: in the syntax of Rust's ``regex``: as Python's, without looking around and
            references back; ``.`` is any character but a line break.
    """

    kind: ClassVar[str] = "regex"

    pattern: str

    def __post_init__(self) -> None:
        _check_text("pattern", self.pattern)


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several texts.

    Attributes:
        choices: the texts, at least one, none of them empty.
    """

    kind: ClassVar[str] = "choice"

    choices: Sequence[str]

    def __post_init__(self) -> None:
        choices = self.choices
        if isinstance(choices, str) or not isinstance(choices, Sequence) or not choices:
            raise invalid_option("choices", choices, "one or more texts")
        for choice in choices:
            if not isinstance(choice, str) or not choice:
                raise invalid_option("choices", choice, "texts that are not empty")
            _check_text("choices", choice)
        object.__setattr__(self, "choices", tuple(dict.fromkeys(choices)))


@dataclass(frozen=True, slots=True)
class Grammar:
    """A text of a context-free grammar.

    Attributes:
        gbnf: the grammar in llama.cpp's notation; its rule ``root`` is the whole text.
    """

    kind: ClassVar[str] = "grammar"

    gbnf: str

    def __post_init__(self) -> None:
        _check_text("gbnf", self.gbnf)


@dataclass(frozen=True, slots=True)
class Forms:
    """One of several forms: texts that are given, with JSON documents between them.

    Attributes:
        forms: each a sequence of texts and schemas. Names of control tokens in the texts are
            taken as these tokens.
    """

    kind: ClassVar[str] = "forms"

    forms: tuple[tuple[str | JsonSchema, ...], ...] = field(default=())

    def __post_init__(self) -> None:
        if not self.forms or not all(self.forms):
            raise invalid_option("forms", self.forms, "one or more forms, each with a part or more")


ResponseFormat: TypeAlias = JsonSchema | JsonObject | Regex | Choice | Grammar | Forms
"""What ``GenerationOptions.response_format`` takes."""

RESPONSE_FORMATS: Final = (JsonSchema, JsonObject, Regex, Choice, Grammar, Forms)
KINDS: Final = tuple(known.kind for known in RESPONSE_FORMATS)
"""Their names."""


def to_record(wanted: ResponseFormat) -> str:
    """A format as JSON, from which ``from_record`` makes it again."""
    return json.dumps({"kind": wanted.kind, "value": _VALUES[wanted.kind](wanted)})


def from_record(text: str) -> ResponseFormat:
    """The format that ``to_record`` has written.

    Raises:
        ConfigError: it is of a kind that this version does not know.
    """
    record = json.loads(text)
    if record["kind"] not in _MAKERS:
        raise invalid_option("response_format", record["kind"], f"one of {', '.join(_MAKERS)}")
    return _MAKERS[record["kind"]](record["value"])


_VALUES: Final[Mapping[str, Callable[..., object]]] = {
    "json_schema": lambda wanted: [wanted.text, wanted.whitespace],
    "json_object": lambda wanted: wanted.whitespace,
    "regex": lambda wanted: wanted.pattern,
    "choice": lambda wanted: list(wanted.choices),
    "grammar": lambda wanted: wanted.gbnf,
    "forms": lambda wanted: [
        [part if isinstance(part, str) else [part.text, part.whitespace] for part in form]
        for form in wanted.forms
    ],
}
_MAKERS: Final[Mapping[str, Callable[..., ResponseFormat]]] = {
    "json_schema": lambda value: JsonSchema(*value),
    "json_object": JsonObject,
    "regex": Regex,
    "choice": Choice,
    "grammar": Grammar,
    "forms": lambda value: Forms(
        tuple(
            tuple(part if isinstance(part, str) else JsonSchema(*part) for part in form)
            for form in value
        )
    ),
}


def _schema_text(schema: object) -> str:
    describe = getattr(schema, "model_json_schema", None)
    if callable(describe):
        schema = describe()
    if isinstance(schema, str):
        try:
            schema = json.loads(schema)
        except ValueError as error:
            raise unusable("json_schema", f"it is no JSON: {error}", schema) from error
    if not isinstance(schema, Mapping | bool):
        raise unusable(
            "json_schema", f"it must be an object or a boolean, not {type(schema).__name__}", schema
        )
    try:
        return json.dumps(dict(schema) if isinstance(schema, Mapping) else schema, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise unusable("json_schema", f"it cannot be written as JSON: {error}", schema) from error


def _check_text(option: str, value: object) -> None:
    if not isinstance(value, str):
        raise invalid_option(option, value, "a text")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise invalid_option(option, value, "a text without lone surrogates") from error


def unusable(kind: str, why: str, value: object, *, where: str = "", hint: str = "") -> ConfigError:
    """The error for a schema, expression or grammar that cannot be followed.

    Args:
        kind: of the format.
        why: in words.
        value: what was given.
        where: in it, as far as that is known.
        hint: what to do about it.
    """
    at = f" at {where}" if where else ""
    return ConfigError(
        ReasonCode.RESPONSE_FORMAT_INVALID,
        f"the {kind.replace('_', ' ')} cannot be used{at}: {why}",
        hint=hint,
        option="response_format",
        kind=kind,
        where=where,
        value=value,
    )
