"""The backends by name, and the choice among them. A new one is one entry here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from smallmind_engine.kernels.backend import Backend
from smallmind_engine.kernels.compile_report import CompileProgress, CompileReport
from smallmind_engine.kernels.numpy_backend import NumpyBackend
from smallmind_engine.telemetry.errors import ConfigError, MissingExtraError, SmallMindError
from smallmind_engine.telemetry.reasons import ReasonCode

AUTO: Final = "auto"
_FAST: Final = "numba"
_EXTRA: Final = "fast"
_EXTRA_MODULES: Final = frozenset({"numba", "llvmlite"})

_Prepare = Callable[[Sequence[str] | None, CompileProgress | None], CompileReport]


@dataclass(frozen=True, slots=True)
class BackendChoice:
    """A backend, and whether it is the one that was hoped for.

    Attributes:
        backend: what will compute.
        fallback: why ``auto`` could not take the fast one, and what would help; else None.
    """

    backend: Backend
    fallback: str | None = None


def _numba_backend() -> Backend:
    from smallmind_engine.kernels.numba_backend.backend import NumbaBackend

    return NumbaBackend()


def _numba_preparation() -> _Prepare:
    from smallmind_engine.kernels.numba_backend.backend import prepare_kernels, require_packages

    require_packages()
    return prepare_kernels


_BACKENDS: Final[Mapping[str, Callable[[], Backend]]] = {
    "numpy": NumpyBackend,
    _FAST: _numba_backend,
}


_PREPARATIONS: Final[Mapping[str, Callable[[], _Prepare]]] = {_FAST: _numba_preparation}
"""The backends that compile kernels."""


def backend_names() -> tuple[str, ...]:
    """Names that ``get_backend`` takes, the automatic choice first."""
    return (AUTO, *_BACKENDS)


def get_backend(name: str) -> Backend:
    """The backend of that name; errors as of ``choose_backend``."""
    return choose_backend(name).backend


def choose_backend(name: str) -> BackendChoice:
    """The backend of that name; ``auto`` is the fast one where it works, else NumPy's.

    Raises:
        ConfigError: there is none of that name, or it does not work here.
        MissingExtraError: it needs packages that are not installed.
    """
    if name == AUTO:
        return _fast_or_numpy()
    if name not in _BACKENDS:
        raise ConfigError(
            ReasonCode.BACKEND_UNKNOWN,
            f"there is no backend {name!r}; known: {', '.join(backend_names())}",
            backend=name,
        )
    try:
        return BackendChoice(_BACKENDS[name]())
    except SmallMindError:
        raise
    except Exception as error:
        raise _unusable(name, error) from error


def prepare_kernels(
    name: str,
    quant_types: Sequence[str] | None = None,
    *,
    on_progress: CompileProgress | None = None,
) -> CompileReport:
    """Compile the kernels of a backend ahead of the first load, and keep them on disk.

    Args:
        name: of the backend; ``auto`` for the fast one.
        quant_types: names of the types that weights have, as in ``QuantType``; None for all.
        on_progress: told of what has to be compiled; what it raises stops the work.

    Raises:
        ConfigError: the backend is unknown, compiles nothing, or does not work here.
        MissingExtraError: it needs packages that are not installed.
    """
    known = _FAST if name == AUTO else name
    if known not in _PREPARATIONS:
        raise ConfigError(
            ReasonCode.BACKEND_UNKNOWN,
            f"there is nothing to compile for a backend {name!r}; there is for: {_FAST}",
            backend=name,
        )
    try:
        prepare = _PREPARATIONS[known]()
    except Exception as error:
        raise _unusable(known, error) from error
    return prepare(quant_types, on_progress)


def _unusable(name: str, error: Exception) -> SmallMindError:
    """The error of whoever asked for this very backend."""
    if _is_missing(error):
        return MissingExtraError(_EXTRA, f"the backend {name!r}")
    return ConfigError(
        ReasonCode.BACKEND_UNKNOWN,
        f"the backend {name!r} does not work here: {_told(error)}",
        hint="use backend='numpy', or mend the installation",
        backend=name,
    )


def _fast_or_numpy() -> BackendChoice:
    try:
        return BackendChoice(_BACKENDS[_FAST]())
    except SmallMindError:  # an option of the user's that cannot be; not for us to pass over
        raise
    except Exception as error:  # noqa: BLE001 - whatever is wrong with it, NumPy works
        trouble = "is not installed" if _is_missing(error) else f"does not work: {_told(error)}"
        fallback = f'numba {trouble}; for more speed run: pip install "smallmind[{_EXTRA}]"'
        return BackendChoice(NumpyBackend(), fallback)


def _is_missing(error: Exception) -> bool:
    return isinstance(error, ModuleNotFoundError) and error.name in _EXTRA_MODULES


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
