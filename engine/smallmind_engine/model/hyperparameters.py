"""Reading a model's hyperparameters: metadata keys under the architecture's name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from smallmind_engine.gguf import (
    MetadataValue,
    get_bool,
    get_float,
    get_int,
    get_str,
    require_int,
)
from smallmind_engine.telemetry.errors import GgufFormatError, UnsupportedModelError
from smallmind_engine.telemetry.reasons import ReasonCode

_MAX_SIZE: Final = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """The keys that begin with the architecture's name.

    Args:
        metadata: of the file.
        architecture: the prefix of the keys.
    """

    metadata: Mapping[str, MetadataValue]
    architecture: str

    def key(self, name: str) -> str:
        """The full key."""
        return f"{self.architecture}.{name}"

    def size(self, name: str, default: int | None = None, *, most: int = _MAX_SIZE) -> int:
        """A positive integer; the same for all layers when the file lists one for each.

        Raises:
            GgufFormatError: missing, not an integer, not positive, or more than ``most``.
            UnsupportedModelError: layers differ.
        """
        key = self.key(name)
        value = self.metadata.get(key)
        if isinstance(value, np.ndarray) and value.dtype.kind in "iu" and value.size:
            size, largest = int(value.min()), int(value.max())
            if size != largest:
                raise UnsupportedModelError(
                    ReasonCode.MODEL_ARCHITECTURE_UNSUPPORTED,
                    f"{key} differs from layer to layer ({size} to {largest});"
                    f" only one value is supported",
                    key=key,
                )
        elif default is not None:
            size = get_int(self.metadata, key, default)
        else:
            size = require_int(self.metadata, key)
        if not 1 <= size <= most:
            raise self._invalid(key, size, f"from 1 to {most}")
        return size

    def integer(self, name: str, default: int) -> int:
        """An integer with a default."""
        return get_int(self.metadata, self.key(name), default)

    def number(self, name: str, default: float) -> float:
        """A float with a default."""
        return get_float(self.metadata, self.key(name), default)

    def positive(self, name: str, default: float) -> float:
        """A float above zero, with a default.

        Raises:
            GgufFormatError: it is something else.
        """
        value = self.number(name, default)
        if value <= 0.0:
            raise self._invalid(self.key(name), value, "positive")
        return value

    @staticmethod
    def _invalid(key: str, value: float, wanted: str) -> GgufFormatError:
        return GgufFormatError(
            ReasonCode.GGUF_METADATA_INVALID,
            f"{key} is {value}; it must be {wanted}",
            key=key,
            value=value,
        )

    def text(self, name: str, default: str) -> str:
        """A string with a default."""
        return get_str(self.metadata, self.key(name), default)

    def flag(self, name: str, *, default: bool) -> bool:
        """A boolean with a default."""
        return get_bool(self.metadata, self.key(name), default=default)

    def has(self, name: str) -> bool:
        """Whether the key is there."""
        return self.key(name) in self.metadata
