"""What a KV cache stores."""

from __future__ import annotations

from enum import StrEnum


class KVType(StrEnum):
    """The type of stored keys and values."""

    F32 = "f32"
    F16 = "f16"
    INT8 = "int8"  # with a factor for each position and head
