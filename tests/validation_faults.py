"""Faults to put into engines, so that each check of a validation is seen to fail."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from smallmind import CancellationToken, Engine, EngineOptions, load
from smallmind.validation import Subject, ValidationOptions
from smallmind_engine.control import WorkLimit
from smallmind_engine.kernels import Chunk, FloatArray
from smallmind_engine.runtime import EngineCore

Spoil = Callable[[FloatArray, Chunk], FloatArray]


class FaultyRunner:
    """Passes everything on, but spoils the arrays that it answers with."""

    def __init__(self, inner: Any, spoil: Spoil) -> None:
        self._inner = inner
        self._spoil = spoil

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def forward(self, chunks: list[Chunk], **kwargs: Any) -> list[Any]:
        # Where the best token alone is asked for, the row is a good answer as well.
        chunks = [
            chunk._replace(logits="last") if chunk.logits == "best" else chunk for chunk in chunks
        ]
        answers = self._inner.forward(chunks, **kwargs)
        return [
            answer if answer is None else self._spoil(answer, chunk)
            for answer, chunk in zip(answers, chunks, strict=True)
        ]


class FaultyTokenizer:
    """Passes everything on, but for what is said otherwise."""

    def __init__(self, inner: Any, **others: Any) -> None:
        self._inner = inner
        self.__dict__.update(others)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class FaultyLoader:
    """Loads engines as ``load`` does, with a fault in each, or in those of one backend.

    Args:
        change: gives the model's parts that are to be others.
        backend: only spoil engines of this backend.
    """

    def __init__(self, change: Callable[[Any], dict[str, Any]], backend: str | None = None) -> None:
        self._change = change
        self._backend = backend

    def __call__(self, path: Path, **kwargs: Any) -> Engine:
        engine = load(path, **kwargs)
        if self._backend not in {None, engine.backend}:
            return engine
        core = engine._core
        model = dataclasses.replace(core.model, **self._change(core.model))
        return Engine(EngineCore(model, core.options, core.budget, core.bus), {}, {})


def logits_fault(spoil: Spoil, backend: str | None = None) -> FaultyLoader:
    """Engines whose runner spoils logits."""
    return FaultyLoader(lambda model: {"runner": FaultyRunner(model.runner, spoil)}, backend)


def tokenizer_fault(change: Callable[[Any], dict[str, Any]]) -> FaultyLoader:
    """Engines whose tokenizer does something else."""
    return FaultyLoader(
        lambda model: {"tokenizer": FaultyTokenizer(model.tokenizer, **change(model.tokenizer))}
    )


def subject_of(engine: Engine, path: Path, **options: Any) -> Subject:
    """What a runner would give its checks."""
    token = CancellationToken()
    return Subject(
        engine=engine,
        path=path,
        engine_options=EngineOptions(backend=engine.backend),
        goldens=(),
        options=ValidationOptions(quick=True, **options),
        load=load,
        token=token,
        limit=WorkLimit(token),
    )
