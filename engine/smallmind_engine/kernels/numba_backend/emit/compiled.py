"""How functions are compiled that only compiled functions call."""

from __future__ import annotations

from typing import Any, Final

from numba import njit
from numba.core import types
from numba.core.compiler import Flags
from numba.extending import intrinsic

# Sums may be taken in any order, which lets LLVM use vectors; the order does not depend on how
# many rows there are.
_ANY_ORDER: Final = {"reassoc", "contract", "nsz"}

# Without the ways in from Python and C, which take longer to compile than the functions, and
# without Numba's counting of references: all memory is owned elsewhere.
_OPTIONS: Final[dict[str, Any]] = {
    "nogil": True,
    "error_model": "numpy",
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
    "_nrt": False,
}

inner: Final = njit(**_OPTIONS)
inner_fast: Final = njit(fastmath=_ANY_ORDER, **_OPTIONS)
inner_inlined: Final = njit(inline="always", **_OPTIONS)
"""For what answers with an array that it was not given, which needs Numba's memory otherwise."""


def unchecked(function: Any) -> Any:
    """The function ``(first, second)`` of two integers that calls ``function`` and no more.

    Numba's functions tell their caller whether they raised. Ours raise nothing, which Numba does
    not know: its C functions would print what was raised, for which they need all of Numba.
    """

    def typed(_context: Any, _first: Any, _second: Any) -> Any:
        signature = types.void(types.int64, types.int64)

        def generate(context: Any, builder: Any, _signature: Any, values: Any) -> Any:
            flags: Any = Flags()
            flags.nrt = False
            flags.error_model = "numpy"
            compiled = context.compile_subroutine(builder, function.py_func, signature, flags=flags)
            context.call_internal_no_propagate(builder, compiled.fndesc, signature, values)
            return context.get_dummy_value()

        return signature, generate

    return intrinsic(typed)
