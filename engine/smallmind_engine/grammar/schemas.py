"""Checks JSON Schemas before a grammar is made of them: a mistake is told with its place."""

from __future__ import annotations

from typing import Final

from smallmind_engine.grammar.formats import JsonSchema, unusable
from smallmind_engine.telemetry.errors import ConfigError, MissingExtraError

_DEEPEST: Final = 64


def check_schema(schema: object) -> None:
    """Raise when a schema breaks the rules of JSON Schema. Fetches nothing.

    Args:
        schema: parsed.

    Raises:
        ConfigError: with the place in the schema.
        MissingExtraError: ``jsonschema`` is not installed.
    """
    try:
        from jsonschema import SchemaError, validators
    except ImportError as error:
        raise MissingExtraError("structured", "structured output by JSON Schema") from error
    if _depth(schema) > _DEEPEST:
        raise _too_deep(schema)
    try:
        validators.validator_for(schema).check_schema(schema)
    except RecursionError:  # the caller's own stack is nearly used up
        raise _too_deep(schema) from None
    except SchemaError as error:
        raise unusable(
            JsonSchema.kind,
            error.message,
            schema,
            where=error.json_path,
            hint="see https://json-schema.org/understanding-json-schema",
        ) from error


def _too_deep(schema: object) -> ConfigError:
    return unusable(
        JsonSchema.kind,
        f"it is nested more than {_DEEPEST} levels deep",
        schema,
        where="$",
        hint="name parts of it under $defs, and refer to them with $ref",
    )


def _depth(value: object) -> int:
    """How deeply lists and objects are within each other."""
    deepest, level = 0, [value]
    while level and deepest <= _DEEPEST:
        inner: list[object] = []
        for each in level:
            if isinstance(each, dict):
                inner += each.values()
            elif isinstance(each, list):
                inner += each
        deepest += bool(inner)
        level = inner
    return deepest
