"""Results as JSON documents: plain values, ids and enums as text, no number that JSON lacks."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from smallmind_engine.runtime import GenerationResult, Timings

Json = dict[str, object]


def emit(document: object) -> None:
    """Write one document to the standard output, and nothing else."""
    json.dump(plain(document), sys.stdout, indent=2, allow_nan=False)
    sys.stdout.write("\n")
    sys.stdout.flush()


@functools.singledispatch
def plain(value: object) -> object:
    """The value in terms of JSON; infinities and not-a-number become null."""
    if dataclasses.is_dataclass(value):
        names = (field.name for field in dataclasses.fields(value))
        return {name: plain(getattr(value, name)) for name in names}
    return str(value)


@plain.register(type(None))
@plain.register(str)
@plain.register(int)
def _as_it_is(value: object) -> object:
    return value


@plain.register
def _number(value: float) -> object:
    return value if math.isfinite(value) else None


@plain.register(np.generic)
@plain.register(np.ndarray)
def _of_numpy(value: np.generic | np.ndarray[Any, Any]) -> object:
    return plain(value.tolist())


@plain.register
def _object(value: Mapping) -> object:  # type: ignore[type-arg]  # singledispatch takes bare types
    return {str(key): plain(each) for key, each in value.items()}


@plain.register(list)
@plain.register(tuple)
def _array(value: Iterable[object]) -> object:
    return [plain(each) for each in value]


@plain.register(frozenset)
def _sorted(value: frozenset[object]) -> object:
    return sorted((plain(each) for each in value), key=str)


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
