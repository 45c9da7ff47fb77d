"""The engine's parts, put together: what every request shares."""

from __future__ import annotations

from collections.abc import Sequence

from smallmind_engine.control import CancellationToken
from smallmind_engine.memory import BudgetEnforcer
from smallmind_engine.model import LoadedModel
from smallmind_engine.runtime.admission import AdmissionGate
from smallmind_engine.runtime.kv_store import KVStore
from smallmind_engine.runtime.options import EngineOptions
from smallmind_engine.telemetry import EventBus, ReasonCode
from smallmind_engine.telemetry.errors import ClosedError, TokenizerError, UnsupportedModelError


class EngineCore:
    """A loaded model with its queue, caches, budget and bus. Thread-safe.

    Args:
        model: owned by the core from now on.
        options: of the engine.
        budget: the one the model was loaded with.
        bus: carries the events.

    Attributes:
        closing: cancelled by ``close``; every request is linked to it.
    """

    def __init__(
        self, model: LoadedModel, options: EngineOptions, budget: BudgetEnforcer, bus: EventBus
    ) -> None:
        self.model = model
        self.options = options
        self.budget = budget
        self.bus = bus
        self.gate = AdmissionGate(options.max_concurrent_requests, options.max_queue_depth)
        self.kv_store = KVStore(model.runner, budget, model.name)
        self.closing = CancellationToken()

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self.closing.is_cancelled

    def check_open(self) -> None:
        """Raise after ``close``.

        Raises:
            ClosedError: the engine is closed.
        """
        if self.closed:
            raise ClosedError(ReasonCode.CLOSED, "the engine is closed")

    def check_generates(self) -> None:
        """Raise when the model is an encoder, which predicts no next token.

        Raises:
            UnsupportedModelError: it is.
        """
        if not self.model.spec.causal:
            raise UnsupportedModelError(
                ReasonCode.MODEL_CANNOT_GENERATE,
                f"the model {self.model.name!r} is an encoder: it predicts no next token",
                hint="use engine.embed(), or load a model that generates",
                architecture=self.model.spec.architecture,
            )

    def check_token_ids(self, ids: Sequence[int]) -> None:
        """Raise when an id is outside the vocabulary.

        Raises:
            TokenizerError: with the id.
        """
        size = self.model.spec.vocab_size
        for token in ids:
            if not 0 <= token < size:
                raise TokenizerError(
                    ReasonCode.TOKENIZER_TOKEN_ID_INVALID,
                    f"token id {token} is outside the vocabulary of {size}",
                    token_id=token,
                    vocab_size=size,
                )

    def close(self) -> None:
        """Stop all requests within a step, and let go of the model. May be called again."""
        if self.closed:
            return
        self.closing.cancel()
        self.gate.close()
        self.model.close()
        self.kv_store.close()
