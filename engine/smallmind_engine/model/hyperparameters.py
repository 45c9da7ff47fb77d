"""Reading a model's hyperparameters: metadata keys under the architecture's name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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

    def size(self, name: str, default: int | None = None) -> int:
        """A positive integer; the same for all layers when the file lists one for each.

        Raises:
            GgufFormatError: missing, not an integer, or not positive.
            UnsupportedModelError: layers differ.
        """
        key = self.key(name)
        value = self.metadata.get(key)
        if isinstance(value, np.ndarray):
            sizes = sorted({int(size) for size in value})
            if len(sizes) != 1:
                raise UnsupportedModelError(
                    ReasonCode.MODEL_ARCHITECTURE_UNSUPPORTED,
                    f"{key} differs from layer to layer ({sizes}); only one value is supported",
                    key=key,
                )
            size = sizes[0]
        elif default is not None:
            size = get_int(self.metadata, key, default)
        else:
            size = require_int(self.metadata, key)
        if size <= 0:
            raise GgufFormatError(
                ReasonCode.GGUF_METADATA_INVALID,
                f"{key} is {size}; it must be positive",
                key=key,
                value=size,
            )
        return size

    def integer(self, name: str, default: int) -> int:
        """An integer with a default."""
        return get_int(self.metadata, self.key(name), default)

    def number(self, name: str, default: float) -> float:
        """A float with a default."""
        return get_float(self.metadata, self.key(name), default)

    def text(self, name: str, default: str) -> str:
        """A string with a default."""
        return get_str(self.metadata, self.key(name), default)

    def flag(self, name: str, *, default: bool) -> bool:
        """A boolean with a default."""
        return get_bool(self.metadata, self.key(name), default=default)

    def has(self, name: str) -> bool:
        """Whether the key is there."""
        return self.key(name) in self.metadata
