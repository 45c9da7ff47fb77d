"""Schemas of many kinds, for documents that models write; none lets a document grow for ever."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

Schema = Mapping[str, object]

_NAME = {"type": "string", "minLength": 1, "maxLength": 12}
_COUNT = {"type": "integer", "minimum": 0, "maximum": 99}


def _object(properties: Schema, *required: str, **more: object) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required or properties),
        "additionalProperties": False,
        **more,
    }


SCHEMAS: dict[str, Schema] = {
    "person": _object({"name": _NAME, "age": _COUNT}),
    "optional": _object({"a": _COUNT, "b": _NAME, "c": {"type": "boolean"}}, "b"),
    "nothing required": {**_object({"a": _COUNT, "b": _COUNT}), "required": []},
    "enum": {"enum": ["red", "green", 3, None, True, {"a": 1}]},
    "const": _object({"kind": {"const": "point"}, "x": _COUNT}),
    "boolean": {"type": "boolean"},
    "null": {"type": "null"},
    "integer limits": {"type": "integer", "minimum": -17, "maximum": 1234},
    "number limits": {"type": "number", "exclusiveMinimum": 0, "maximum": 1, "multipleOf": 0.25},
    "multiple": {"type": "integer", "minimum": 0, "maximum": 100, "multipleOf": 5},
    "text limits": {"type": "string", "minLength": 2, "maxLength": 9},
    "pattern": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3,5}$"},
    "date": {"type": "string", "format": "date"},
    "uuid": {"type": "string", "format": "uuid"},
    "array": {"type": "array", "items": _COUNT, "minItems": 1, "maxItems": 4},
    "tuple": {
        "type": "array",
        "prefixItems": [_NAME, _COUNT, {"type": "boolean"}],
        "items": False,
        "minItems": 3,
    },
    "array of objects": {
        "type": "array",
        "items": _object({"id": _COUNT, "tag": {"enum": ["a", "b"]}}),
        "minItems": 1,
        "maxItems": 3,
    },
    "nested": _object(
        {"user": _object({"name": _NAME, "at": _object({"x": _COUNT, "y": _COUNT})}), "n": _COUNT}
    ),
    "any of": {"anyOf": [_COUNT, {"type": "boolean"}, _object({"name": _NAME})]},
    "one of, by type": {"oneOf": [{"type": "string", "maxLength": 6}, _COUNT, {"type": "null"}]},
    "all of": {
        "allOf": [
            {"type": "object", "properties": {"a": _COUNT}, "required": ["a"]},
            {"properties": {"b": {"type": "boolean"}}, "required": ["b"]},
        ],
        "additionalProperties": False,
        "properties": {"a": True, "b": True},
    },
    "types": {"type": ["boolean", "null", "integer"], "minimum": 0, "maximum": 50},
    "references": {
        "$defs": {"word": _NAME, "pair": _object({"left": {"$ref": "#/$defs/word"}, "n": _COUNT})},
        "type": "array",
        "items": {"$ref": "#/$defs/pair"},
        "minItems": 1,
        "maxItems": 2,
    },
    "a tree": {
        "$defs": {
            "leaf": _object({"value": _COUNT}),
            "twig": _object({"left": {"$ref": "#/$defs/leaf"}, "right": {"$ref": "#/$defs/leaf"}}),
        },
        "$ref": "#/$defs/twig",
    },
    "values of any name": {
        "type": "object",
        "additionalProperties": _COUNT,
        "properties": {"total": _COUNT},
        "required": ["total"],
        "maxProperties": 3,
    },
    "keys": {
        "type": "object",
        "patternProperties": {"^[a-z]{1,3}$": {"type": "boolean"}},
        "additionalProperties": False,
        "maxProperties": 3,
    },
    "draft 7": {
        "$schema": "http://json-schema.org/draft-07/schema#",
        **_object({"title": _NAME, "year": {"type": "integer", "minimum": 1900, "maximum": 2100}}),
    },
}


def seeds(count: int) -> Iterator[tuple[str, Schema, int]]:
    """Each schema with so many seeds."""
    for name, schema in SCHEMAS.items():
        for seed in range(count):
            yield name, schema, seed
