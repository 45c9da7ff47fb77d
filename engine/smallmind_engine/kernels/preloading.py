"""Loading LLVM's library before Numba does, without holding up all other threads.

Python holds the GIL while it loads a library, and this one has a hundred megabytes: for the
second that it can take, nobody else could do anything, not even cancel the load.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

_NAMES: Final = ("libllvmlite.so", "libllvmlite.dylib")


def preload_compiler() -> None:
    """Have the system load the library, as far as that can be done; no error when it cannot."""
    spec = importlib.util.find_spec("llvmlite")
    if spec is None or spec.origin is None or not hasattr(os, "RTLD_NOW"):
        return
    folder = Path(spec.origin).with_name("binding")
    for path in (folder / name for name in _NAMES):
        if path.is_file():
            # The system's own function, called as a foreign one: that lets go of the GIL.
            with suppress(OSError, AttributeError):
                load = ctypes.CDLL(None).dlopen
                load.argtypes, load.restype = [ctypes.c_char_p, ctypes.c_int], ctypes.c_void_p
                load(os.fsencode(path), os.RTLD_NOW)
