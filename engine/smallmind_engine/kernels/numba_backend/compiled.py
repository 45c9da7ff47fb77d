"""How functions are compiled that only compiled functions call."""

from __future__ import annotations

from typing import Any, Final

from numba import njit

# Sums may be taken in any order, which lets LLVM use vectors; the order does not depend on how
# many rows there are.
_ANY_ORDER: Final = {"reassoc", "contract", "nsz"}

# Without the ways in from Python and C, which take longer to compile than the functions.
_OPTIONS: Final[dict[str, Any]] = {
    "nogil": True,
    "error_model": "numpy",
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
}

inner: Final = njit(**_OPTIONS)
inner_fast: Final = njit(fastmath=_ANY_ORDER, **_OPTIONS)
