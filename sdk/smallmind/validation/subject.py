"""What is validated, as the checks see it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar, Unpack

from smallmind._engine import Engine
from smallmind._load import EngineKwargs
from smallmind._request_options import RequestKwargs
from smallmind.validation.golden import Golden
from smallmind.validation.options import ValidationOptions
from smallmind_engine.control import CancellationToken, WorkLimit
from smallmind_engine.model import LoadedModel
from smallmind_engine.runtime import EngineOptions, GenerationResult
from smallmind_engine.tokenizers import Tokenizer

_T = TypeVar("_T")


class Loader(Protocol):
    """Makes an engine, as ``smallmind.load`` does."""

    def __call__(
        self,
        path: Path,
        /,
        *,
        options: EngineOptions,
        exporters: tuple[()],
        cancellation: CancellationToken | None,
        timeout: float | None,
    ) -> Engine:
        """The engine, which the caller closes."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A loaded model, and what is to be made of it.

    Attributes:
        engine: runs it; belongs to the runner.
        path: of its file.
        engine_options: with which it was loaded.
        goldens: what references say of it.
        options: how thoroughly to look.
        load: makes further engines.
        token: stops the check.
        limit: the same token, with the check's deadline.
    """

    engine: Engine
    path: Path
    engine_options: EngineOptions
    goldens: tuple[Golden, ...]
    options: ValidationOptions
    load: Loader
    token: CancellationToken
    limit: WorkLimit

    @property
    def model(self) -> LoadedModel:
        """What is known of the model."""
        return self.engine.model

    @property
    def tokenizer(self) -> Tokenizer:
        """Of the model."""
        return self.engine.model.tokenizer

    def amount(self, quick: _T, thorough: _T) -> _T:
        """The one or the other, as the options say."""
        return quick if self.options.quick else thorough

    def prompt_ids(self, count: int, first: int = 0) -> list[int]:
        """So many token ids of ordinary text, fewer where the context has no room for them.

        Args:
            count: how many.
            first: prompts with another number here begin differently, and share nothing.
        """
        room = max(2, self.model.context_length - 2)
        text = "The quick brown fox jumps over the lazy dog. "
        ids = self.tokenizer.encode(f"{first} " + text * (count // 4 + 2), limit=self.limit)
        # A byte may have taken more than a token, or, without merges, a word none.
        ids = ids * (count // max(1, len(ids)) + 1) if ids else [0] * count
        return ids[: min(count, room)]

    def generate(
        self, prompt: str | Sequence[int], **options: Unpack[RequestKwargs]
    ) -> GenerationResult:
        """A request that ends with the check.

        Raises:
            OperationCancelledError: the check is over.
            SmallMindError: as of ``Engine.generate``.
        """
        timeout = self.limit.remaining_s
        options.setdefault("cancellation", self.token)
        if timeout is not None:
            options.setdefault("request_timeout", max(timeout, 1e-3))
        result = self.engine.generate(prompt, **options)
        self.limit.check("validation")
        return result

    def another(self, **changes: Unpack[EngineKwargs]) -> Engine:
        """A second engine over the same file; its caller closes it.

        Raises:
            SmallMindError: as of ``load``.
        """
        return self.load(
            self.path,
            options=replace(self.engine_options, **changes),  # type: ignore[arg-type]
            exporters=(),
            cancellation=self.token,
            timeout=self.limit.remaining_s,
        )
