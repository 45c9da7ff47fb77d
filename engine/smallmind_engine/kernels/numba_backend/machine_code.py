"""Putting compiled kernels into memory, which takes neither Numba nor a compiler."""

from __future__ import annotations

import threading
from functools import cache
from typing import Any, Final

from smallmind_engine.kernels.numba_backend.elf_image import Image, image_of
from smallmind_engine.kernels.numba_backend.kernel_files import KernelCode
from smallmind_engine.kernels.preloading import preload_compiler

_LOCK: Final = threading.Lock()
"""LLVM's own structures are shared by all engines."""


def linked(code: KernelCode) -> Image:
    """A kernel in memory.

    Raises:
        LookupError: it needs a symbol that is nowhere to be found, such as one of a library that
            is gone.
    """
    return image_of(code.machine_code, code.symbol) or linked_by_llvm(code)


def linked_by_llvm(code: KernelCode) -> Image:
    """The same for object files of all kinds.

    Each kernel has an engine of its own, so that functions of the same name in two kernels, which
    different processes may have compiled, never meet.

    Raises:
        LookupError: as above. LLVM's linker would end the process.
    """
    preload_compiler()
    from llvmlite import binding

    unknown = [name for name in code.needs if binding.address_of_symbol(name) is None]
    if unknown:
        raise LookupError(*unknown)
    with _LOCK:
        machine = _target().create_target_machine()
        engine: Any = binding.create_mcjit_compiler(binding.parse_assembly(""), machine)
        engine.add_object_file(binding.ObjectFileRef.from_data(code.machine_code))
        engine.finalize_object()
        address: int = engine.get_function_address(code.symbol)
    if not address:
        raise LookupError(code.symbol)
    return Image(address, engine)


@cache
def _target() -> Any:
    from llvmlite import binding

    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    return binding.Target.from_default_triple()
