"""Structured output: answers that are sure to be of a form, for ``response_format=``.

>>> from smallmind.structured import Choice, JsonSchema
>>> JsonSchema({"type": "object", "properties": {"age": {"type": "integer"}}}).kind
'json_schema'
>>> Choice(["yes", "no"]).choices
('yes', 'no')
"""

from smallmind._structured_values import parsed
from smallmind_engine.grammar import (
    Choice,
    Forms,
    Grammar,
    JsonObject,
    JsonSchema,
    Regex,
    ResponseFormat,
)
from smallmind_engine.runtime import Structured

__all__ = [
    "Choice",
    "Forms",
    "Grammar",
    "JsonObject",
    "JsonSchema",
    "Regex",
    "ResponseFormat",
    "Structured",
    "parsed",
]
