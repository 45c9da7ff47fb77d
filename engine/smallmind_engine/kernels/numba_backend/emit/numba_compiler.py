"""From a Python function to machine code: the one module that asks Numba to compile kernels."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import FunctionType
from typing import Any, Final

from llvmlite import binding
from numba.core import types
from numba.core.ccallback import CFunc

from smallmind_engine.kernels.numba_backend.kernel_files import KernelCode

_FOREIGN: Final = re.compile(
    r"""^(?:declare\b[^@\n]*@(?!"?llvm\.)|@(?=[^\n]*= external\b))"?([^"(\s]+)""", re.MULTILINE
)
"""Functions and variables that a module of LLVM's assembly only declares."""

_OPTIONS: Final[dict[str, Any]] = {
    "nopython": True,
    "nogil": True,
    "error_model": "numpy",
    "_nrt": False,
}

binding.initialize_native_asmparser()  # for the assembly in ``attention_sums``


def compile_function(
    function: Callable[..., Any], symbol: str, arguments: int, *, returns: bool
) -> tuple[KernelCode, Any]:
    """Compile a function of 64-bit integers.

    Args:
        function: what it does.
        symbol: a name that no other kernel has.
        arguments: how many it takes.
        returns: whether it answers an integer, or nothing.

    Returns:
        The code, and Numba's object for it, whose ``address`` holds where code cannot be moved.
        The code is empty then: it has addresses of this process in it.
    """
    result = types.int64 if returns else types.void
    signature = ((types.int64,) * arguments, result)
    compiled: Any = CFunc(_renamed(function, symbol), signature, {}, _OPTIONS)
    compiled.compile()
    library = compiled._library  # noqa: SLF001 - Numba keeps it for its own cache
    name: str = compiled._wrapper_name  # noqa: SLF001 - likewise
    if library.has_dynamic_globals:
        return KernelCode(name, (), b""), compiled
    _, _, (machine_code, _) = library.serialize_using_object_code()
    needs = tuple(
        symbol
        for symbol in dict.fromkeys(_FOREIGN.findall(library.get_llvm_str()))
        if not symbol.startswith("_ZN08NumbaEnv")
    )
    return KernelCode(name, needs, machine_code), compiled


def _renamed(function: Any, symbol: str) -> FunctionType:
    """The function under a name that no other kernel has.

    Numba makes symbols of the name and of a count within the process. Two kernels of one factory,
    compiled by two processes, would share one.
    """
    twin = FunctionType(
        function.__code__,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    twin.__qualname__ = symbol
    twin.__module__ = function.__module__
    twin.__kwdefaults__ = function.__kwdefaults__
    return twin
