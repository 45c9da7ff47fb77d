"""What lies where in a page of the KV cache."""

# L layers, K kv-heads, D key size, E value size, rounded up to 16

from __future__ import annotations

from dataclasses import dataclass

from smallmind_engine.cache import KVType
from smallmind_engine.kernels.numba_backend.packed_model import Words, round_up
from smallmind_engine.kernels.numba_backend.records import ITEM_BYTES, PAGE_TOKENS, Layer
from smallmind_engine.kernels.spec import TransformerSpec

_FACTOR_BYTES = 4
_ALIGNMENT = 64


@dataclass(frozen=True, slots=True)
class PageLayout:
    """Byte offsets within a page.

    Attributes:
        kind: type of the stored numbers.
        key_head: bytes of one head's keys of one layer.
        value_head: bytes of one head's values of one layer.
        factors: bytes of all heads' factors of one layer's keys (or values); 0 without any.
        n_kv_heads: K.
        n_layers: L.
    """

    kind: KVType
    key_head: int
    value_head: int
    factors: int
    n_kv_heads: int
    n_layers: int

    @property
    def layer_bytes(self) -> int:
        """Bytes of one layer."""
        return self.n_kv_heads * (self.key_head + self.value_head) + 2 * self.factors

    @property
    def page_bytes(self) -> int:
        """Bytes of a page."""
        return self.n_layers * self.layer_bytes

    def write_offsets(self, layers: Words) -> None:
        """Put the offsets into the table of layers."""
        for index in range(self.n_layers):
            base = index * self.layer_bytes
            values = base + self.n_kv_heads * self.key_head
            factors = values + self.n_kv_heads * self.value_head
            layers[index, Layer.KEYS] = base
            layers[index, Layer.VALUES] = values
            layers[index, Layer.KEY_FACTORS] = factors
            layers[index, Layer.VALUE_FACTORS] = factors + self.factors


def page_layout(spec: TransformerSpec, kind: KVType) -> PageLayout:
    """The layout for a model and a type."""
    size = ITEM_BYTES[kind]
    factors = spec.n_kv_heads * PAGE_TOKENS * _FACTOR_BYTES if kind is KVType.INT8 else 0
    return PageLayout(
        kind=kind,
        key_head=round_up(PAGE_TOKENS * spec.head_dim * size, _ALIGNMENT),
        value_head=PAGE_TOKENS * round_up(spec.value_dim) * size,
        factors=factors,
        n_kv_heads=spec.n_kv_heads,
        n_layers=spec.n_layers,
    )
