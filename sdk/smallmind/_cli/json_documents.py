"""Results as JSON documents: plain values, ids and enums as text, no number that JSON lacks."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Mapping
from enum import Enum
from pathlib import Path

import numpy as np

from smallmind_engine.runtime import GenerationResult, Timings

Json = dict[str, object]


def emit(document: object) -> None:
    """Write one document to the standard output, and nothing else."""
    json.dump(plain(document), sys.stdout, indent=2, allow_nan=False)
    sys.stdout.write("\n")
    sys.stdout.flush()


def plain(value: object) -> object:
    """The value in terms of JSON; infinities and not-a-number become null."""
    match value:
        case Enum():
            return plain(value.value)
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else None
        case np.generic():
            return plain(value.item())
        case np.ndarray():
            return plain(value.tolist())
        case Path():
            return str(value)
        case Mapping():
            return {str(plain(key)): plain(each) for key, each in value.items()}
        case list() | tuple():
            return [plain(each) for each in value]
        case set() | frozenset():
            return sorted((plain(each) for each in value), key=str)
        case _ if dataclasses.is_dataclass(value):
            names = (field.name for field in dataclasses.fields(value))
            return {name: plain(getattr(value, name)) for name in names}
        case _:
            return str(value)


def result_document(result: GenerationResult) -> Json:
    """A request's result, with what its timings and usage work out to."""
    document = plain(result)
    if not isinstance(document, dict):  # pragma: no cover - a dataclass becomes a dict
        raise TypeError
    document["timings"] = timings_document(result.timings)
    document["usage"]["total_tokens"] = result.usage.total_tokens
    return document


def timings_document(timings: Timings) -> Json:
    """Timings with speeds and the attributed share."""
    return {
        "total_s": timings.total_s,
        "time_to_first_token_s": timings.time_to_first_token_s,
        "ledger": dict(timings.ledger),
        "decode_steps": timings.decode_steps,
        "prefill_tokens": timings.prefill_tokens,
        "tokens_per_second": timings.tokens_per_second,
        "prefill_tokens_per_second": timings.prefill_tokens_per_second,
        "attributed_share": timings.attributed_share,
    }
