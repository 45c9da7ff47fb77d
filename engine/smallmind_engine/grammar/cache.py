"""Compiled grammars of an engine, those that were used last."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from smallmind_engine.control import FORK_GATE
from smallmind_engine.grammar.formats import ResponseFormat, unusable
from smallmind_engine.grammar.lark import lark_of
from smallmind_engine.grammar.llguidance_library import Library
from smallmind_engine.sampling import Constraint
from smallmind_engine.telemetry.errors import InferenceError
from smallmind_engine.tokenizers import Tokenizer

DEFAULT_CAPACITY: Final = 64

_HINTS: Final = {
    "json_schema": "leave the keyword out, or say the same with type, properties, items, enum,"
    " anyOf, pattern and the limits of numbers and lengths",
    "regex": "look-around, back-references and word boundaries are not known; the expression"
    " matches the whole text without ^ and $",
}


@dataclass(frozen=True, slots=True)
class CompiledGrammar:
    """A grammar that was compiled, and found compiled or not.

    Attributes:
        wanted: what it stands for.
        cached: whether it was compiled before.
        constraint: makes what holds one text to it.
        matches: whether a text is whole and of the grammar.
    """

    wanted: ResponseFormat
    cached: bool
    constraint: Callable[[], Constraint]
    matches: Callable[[str], bool]


class GrammarCache:
    """Compiles response formats for one tokenizer. Thread-safe.

    Args:
        tokenizer: of the model.
        capacity: grammars that are kept.
    """

    def __init__(self, tokenizer: Tokenizer, capacity: int = DEFAULT_CAPACITY) -> None:
        self._tokenizer = tokenizer
        self._capacity = capacity
        self._kept: OrderedDict[ResponseFormat, Any] = OrderedDict()
        self._library: Library | None = None
        self.begin_in_child()

    def begin_in_child(self) -> None:
        """Renew what a fork may have left locked."""
        self._lock = threading.Lock()
        self._building = threading.Lock()

    def compiled(self, wanted: ResponseFormat) -> CompiledGrammar:
        """The grammar of a response format.

        Raises:
            ConfigError: it cannot be followed.
            MissingExtraError: a library is not installed.
        """
        # The process forks before or after, never while a library of another language works.
        with FORK_GATE.held():
            library = self._built()
            with self._lock:
                found = self._kept.get(wanted)
                if found is not None:
                    self._kept.move_to_end(wanted)
            cached = found is not None
            if found is None:
                found = _compiled(library, wanted, self._tokenizer)
                with self._lock:
                    self._kept[wanted] = found
                    while len(self._kept) > self._capacity:
                        self._kept.popitem(last=False)
        return CompiledGrammar(
            wanted,
            cached,
            lambda: self._apart(lambda: library.constraint(found)),
            lambda text: self._apart(lambda: library.matches(found, text)),
        )

    def __len__(self) -> int:
        return len(self._kept)

    def _apart(self, work: Callable[[], Any]) -> Any:
        """Do what looks at a shared matcher while nobody else does."""
        with self._lock:
            return work()

    def _built(self) -> Library:
        with self._building:
            if self._library is None:
                self._library = Library(self._tokenizer)
            return self._library


def _compiled(library: Library, wanted: ResponseFormat, tokenizer: Tokenizer) -> Any:
    lark = lark_of(wanted, tokenizer)
    try:
        compiled = library.compiled(lark)
        library.constraint(compiled).allowed()  # what has no beginning is refused here
    except (ValueError, InferenceError) as error:
        why, hint = str(error.args[0]), _HINTS.get(wanted.kind, "")
        raise unusable(wanted.kind, why, wanted, hint=hint) from error
    return compiled
