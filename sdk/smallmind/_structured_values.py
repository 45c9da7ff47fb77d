"""From a structured answer to its value."""

from __future__ import annotations

import json

from smallmind_engine.grammar import JsonObject, JsonSchema
from smallmind_engine.runtime import GenerationResult
from smallmind_engine.telemetry import InferenceError, ReasonCode
from smallmind_engine.telemetry.errors import ConfigError

_JSON = (JsonSchema.kind, JsonObject.kind)


def parsed(result: GenerationResult) -> object:
    """What a structured answer says: the value of a JSON document, else its text.

    Args:
        result: of a request with a ``response_format``.

    Raises:
        InferenceError: the answer was cut short; ``details["result"]`` has it.
        ConfigError: the request had no ``response_format``.
    """
    outcome = result.structured
    if outcome is None:
        raise ConfigError(
            ReasonCode.OPTION_INVALID,
            "the result is of a request without a response_format",
            hint="pass response_format=JsonSchema(...) to it",
            option="response_format",
        )
    if not outcome.complete:
        raise InferenceError(
            ReasonCode.RESPONSE_INCOMPLETE,
            f"the answer ended by {outcome.cut_by} after {result.usage.completion_tokens} tokens,"
            f" before its {outcome.format} was complete",
            hint="raise max_tokens, or limit lengths in the schema",
            result=result,
        )
    return json.loads(result.text) if outcome.format in _JSON else result.text
