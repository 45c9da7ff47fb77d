"""``smallmind rm``."""

from __future__ import annotations

from smallmind._cli.parameters import Name
from smallmind._cli.screen import Screen
from smallmind._registry import remove as remove_model


def remove(name: Name) -> None:
    """Delete a model from the cache."""
    gone = remove_model(name)
    Screen.open().note(f"{name}: deleted" if gone else f"{name}: was not in the cache")
