"""What an exporter does in a child process after a fork."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable


def run_in_child(method: Callable[[], None]) -> None:
    """Call the bound ``method`` in each child forked from now on, while its object lives."""
    if not hasattr(os, "register_at_fork"):
        return
    reference = weakref.WeakMethod(method)

    def call() -> None:
        alive = reference()
        if alive is not None:
            alive()

    os.register_at_fork(after_in_child=call)
