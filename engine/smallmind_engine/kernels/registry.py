"""The backends by name. A new one is one entry here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from smallmind_engine.kernels.backend import Backend
from smallmind_engine.kernels.numpy_backend import NumpyBackend
from smallmind_engine.telemetry.errors import ConfigError
from smallmind_engine.telemetry.reasons import ReasonCode

AUTO: Final = "auto"

_BACKENDS: Final[Mapping[str, Callable[[], Backend]]] = {"numpy": NumpyBackend}


def backend_names() -> tuple[str, ...]:
    """Names that ``get_backend`` takes, the automatic choice first."""
    return (AUTO, *_BACKENDS)


def get_backend(name: str) -> Backend:
    """The backend of that name; ``auto`` is the best one that works here.

    Raises:
        ConfigError: there is none of that name.
    """
    if name == AUTO:
        return NumpyBackend()
    if name not in _BACKENDS:
        raise ConfigError(
            ReasonCode.BACKEND_UNKNOWN,
            f"there is no backend {name!r}; known: {', '.join(backend_names())}",
            backend=name,
        )
    return _BACKENDS[name]()
