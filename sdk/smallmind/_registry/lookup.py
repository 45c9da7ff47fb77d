"""Finding a model by its name."""

from __future__ import annotations

import difflib

from smallmind._registry.entry import ModelEntry
from smallmind._registry.table import MODELS
from smallmind_engine.telemetry import ReasonCode, RegistryError


def entries() -> tuple[ModelEntry, ...]:
    """All models that have a name."""
    return MODELS


def find(name: str) -> ModelEntry:
    """The model called ``name``; case does not matter.

    Raises:
        RegistryError: ``MODEL_NAME_UNKNOWN``; the message lists the names.
    """
    wanted = name.casefold()
    for entry in MODELS:
        if entry.name == wanted:
            return entry
    raise RegistryError(
        ReasonCode.MODEL_NAME_UNKNOWN,
        f"there is no model called {name!r}; the registry has {known_names()}",
        hint=suggestion(name),
        name=name,
    )


def known_names() -> str:
    """The names, for a message."""
    return ", ".join(entry.name for entry in MODELS)


def suggestion(name: str) -> str:
    """A question with the nearest name, or nothing when none is near."""
    near = difflib.get_close_matches(name.casefold(), [entry.name for entry in MODELS], n=1)
    return f"did you mean {near[0]!r}?" if near else ""
