"""Renews what a forked child cannot use: locks and threads stay behind in the parent.

``os.register_at_fork`` cannot be undone, so there is one hook for the process, over weak
references to the objects that need it.
"""

from __future__ import annotations

import os
from typing import Final, Protocol
from weakref import WeakSet


class Renewable(Protocol):
    """Has state that must be made anew in a forked child."""

    def begin_in_child(self) -> None:
        """Replace locks and threads; called in the child, which has one thread."""
        ...


_renewables: Final[WeakSet[Renewable]] = WeakSet()


def renew_in_child(owner: Renewable) -> None:
    """Call ``owner.begin_in_child()`` in each child forked from now on, while it is alive."""
    _renewables.add(owner)


def _renew_all() -> None:  # pragma: no cover - runs in forked children, which are not measured
    for owner in list(_renewables):
        owner.begin_in_child()


if hasattr(os, "register_at_fork"):  # pragma: no branch - a matter of the system
    os.register_at_fork(after_in_child=_renew_all)
