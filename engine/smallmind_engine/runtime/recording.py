"""The flight recorder: a request as an event from which it can be run again."""

from __future__ import annotations

import functools
import hashlib
import platform
import sys
from array import array
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from smallmind_engine.grammar import to_record
from smallmind_engine.model import LoadedModel
from smallmind_engine.runtime.options import GenerationOptions
from smallmind_engine.telemetry import Emitter, RequestRecorded

SAMPLING_FIELDS: Final = (
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "repetition_penalty",
    "frequency_penalty",
    "presence_penalty",
    "penalty_window",
)
"""The fields of ``GenerationOptions`` that are numbers and choose tokens."""

_PACKAGES: Final = ("smallmind", "numpy", "numba")


def prompt_digest(ids: Sequence[int]) -> str:
    """SHA-256 of token ids as little-endian 64-bit integers, in hex digits."""
    numbers = array("q", ids)
    if sys.byteorder == "big":  # pragma: no cover - a matter of the machine
        numbers.byteswap()
    return hashlib.sha256(numbers.tobytes()).hexdigest()


def recorded_request(
    emitter: Emitter,
    model: LoadedModel,
    options: GenerationOptions,
    *,
    operation: str,
    prompt_ids: Sequence[int],
    cached_tokens: int,
    seed: int,
    capture_content: bool,
) -> RequestRecorded:
    """The record of a request that begins to generate.

    Args:
        emitter: of the request.
        model: that runs it.
        options: of the request.
        operation: ``text_completion`` or ``chat``.
        prompt_ids: of the whole sequence before the first new token.
        cached_tokens: how many of them were in the session's cache.
        seed: of the draws.
        capture_content: whether token ids, stop strings and response formats may be told.
    """
    wanted = options.response_format
    return RequestRecorded(
        *emitter.header(),
        model=model.name,
        fingerprint=model.fingerprint,
        backend=model.runner.backend,
        runtime=runtime_of(model),
        operation=operation,
        seed=seed,
        max_tokens=options.max_tokens,
        ignore_eos=options.ignore_eos,
        options=sampling_of(options),
        logit_bias=tuple(sorted((options.logit_bias or {}).items())),
        stop=options.stop if capture_content else None,
        stop_count=len(options.stop),
        prompt_tokens=len(prompt_ids),
        cached_tokens=cached_tokens,
        prompt_sha256=prompt_digest(prompt_ids),
        prompt_ids=tuple(prompt_ids) if capture_content else None,
        context_overflow=options.context_overflow.value,
        response_kind="" if wanted is None else wanted.kind,
        response_format=to_record(wanted) if capture_content and wanted is not None else None,
    )


def sampling_of(options: GenerationOptions) -> tuple[tuple[str, float], ...]:
    """The numbers that choose tokens, by name."""
    return tuple((name, getattr(options, name)) for name in SAMPLING_FIELDS)


def runtime_of(model: LoadedModel) -> tuple[tuple[str, str], ...]:
    """Versions and settings that may change the last digit of a score."""
    return (
        *_versions(),
        ("weights", model.runner.weights_mode.value),
        ("kv_cache_type", model.runner.kv_type.value),
        ("prefill_chunk", str(model.runner.prefill_chunk)),
        ("context_length", str(model.context_length)),
    )


@functools.cache
def _versions() -> tuple[tuple[str, str], ...]:
    return (
        *((name, _version(name)) for name in _PACKAGES),
        ("python", platform.python_version()),
        ("machine", platform.machine()),
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
