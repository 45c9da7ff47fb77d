"""What compiled functions are called: those of weight layouts, and those of every model."""

from __future__ import annotations

from typing import Final

from smallmind_engine.cache import KVType
from smallmind_engine.kernels.packing import PackedLayout

STEP: Final = "step"
LEAD: Final = "lead"
SERVE: Final = "serve"
SCREEN: Final = "screen"
SCREEN_SEVERAL: Final = "screen_several"
PICKED: Final = "picked"


def product_name(layout: PackedLayout) -> str:
    """Name of the function that multiplies with weights of a layout."""
    return f"product_{layout.name.lower()}"


def row_name(layout: PackedLayout) -> str:
    """Name of the function that reads a row of such weights back."""
    return f"row_{layout.name.lower()}"


def attention_name(kind: KVType, rows: int) -> str:
    """Name of the attention function for so many query rows."""
    return f"attention_{kind}_{rows}"


def store_name(kind: KVType) -> str:
    """Name of the function that writes into a cache."""
    return f"store_{kind}"
