"""Metadata that no model can have gives a clear error: no table without end, no broken sums."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from gguf_files import Key, gguf_bytes
from smallmind_engine.control import NO_LIMIT
from smallmind_engine.gguf import read_header
from smallmind_engine.kernels import TransformerSpec
from smallmind_engine.model import transformer_spec
from smallmind_engine.telemetry.errors import GgufFormatError, UnsupportedModelError

KEYS: dict[str, tuple[str, object]] = {
    "block_count": ("u32", 2),
    "context_length": ("u32", 64),
    "embedding_length": ("u32", 32),
    "feed_forward_length": ("u32", 64),
    "attention.head_count": ("u32", 4),
    "attention.head_count_kv": ("u32", 2),
    "attention.layer_norm_rms_epsilon": ("f32", 1e-5),
}
YARN: dict[str, tuple[str, object]] = {
    "rope.scaling.type": ("str", "yarn"),
    "rope.scaling.factor": ("f32", 4.0),
    "rope.scaling.original_context_length": ("u32", 16),
}


class NoTensors:
    """A source of nothing."""

    def has(self, name: str) -> bool:
        return False

    def shape(self, name: str) -> tuple[int, ...]:
        raise KeyError(name)

    def floats(
        self, name: str, *, rows: slice | None = None, out: np.ndarray | None = None
    ) -> np.ndarray:
        raise KeyError(name)


def spec(values: dict[str, tuple[str, object]], architecture: str = "llama") -> TransformerSpec:
    keys: list[Key] = [("general.architecture", "str", architecture)]
    keys += [
        (f"{architecture}.{name}", kind, value) for name, (kind, value) in (KEYS | values).items()
    ]
    return transformer_spec(
        read_header(gguf_bytes(keys), Path("m.gguf"), NO_LIMIT).metadata, NoTensors()
    )


@pytest.mark.parametrize(
    ("name", "kind", "value"),
    [
        ("block_count", "u64", 2**63),
        ("block_count", "u32", 2**32 - 1),
        ("block_count", "i32", -1),
        ("block_count", "u32", 0),
        ("block_count", "[f32]", [math.nan, 2.0]),
        ("block_count", "[u32]", []),
        ("block_count", "[[u32]]", [[2]]),
        ("context_length", "u64", 2**64 - 1),
        ("attention.head_count", "bool", 1),
        ("attention.head_count_kv", "u32", 3),
        ("attention.key_length", "u32", 2**31 - 2),
        ("attention.value_length", "u32", 2**31 - 2),
        ("attention.layer_norm_rms_epsilon", "f32", -1.0),
        ("attention.layer_norm_rms_epsilon", "f32", math.nan),
        ("rope.dimension_count", "u32", 7),
        ("rope.dimension_count", "u32", 10),
        ("rope.freq_base", "f32", -10000.0),
        ("rope.freq_base", "f32", 0.0),
        ("rope.freq_base", "f32", 1.0),
        ("rope.freq_base", "f64", math.inf),
        ("rope.scaling.factor", "f64", 5e-324),
    ],
)
def test_impossible_values_are_refused(name: str, kind: str, value: object) -> None:
    with pytest.raises(GgufFormatError, match=name.partition(".")[0]):
        spec({name: (kind, value)})


@pytest.mark.parametrize(
    ("name", "kind", "value"),
    [
        ("rope.freq_base", "f32", 1.0),
        ("rope.scaling.original_context_length", "i32", -5),
        ("rope.scaling.original_context_length", "u32", 0),
        ("rope.scaling.factor", "f64", 5e-324),
        ("rope.scaling.attn_factor", "f64", math.nan),
        ("rope.scaling.yarn_beta_fast", "f64", 0.0),
        ("rope.scaling.yarn_beta_slow", "f64", -1.0),
    ],
)
def test_impossible_values_of_yarn_are_refused(name: str, kind: str, value: object) -> None:
    with pytest.raises(GgufFormatError, match="rope"):
        spec(YARN | {name: (kind, value)})


@pytest.mark.parametrize("beta", [5e-324, 1e308])
@pytest.mark.parametrize("name", ["yarn_beta_fast", "yarn_beta_slow"])
def test_extreme_values_of_yarn_give_finite_speeds(name: str, beta: float) -> None:
    rope = spec(YARN | {f"rope.scaling.{name}": ("f64", beta)}).layers[0].rope

    assert rope is not None
    assert all(map(math.isfinite, rope.inverse_frequencies))


def test_a_base_of_the_windowed_layers_must_be_possible_too() -> None:
    with pytest.raises(GgufFormatError, match="freq_base_swa"):
        spec({"rope.freq_base_swa": ("f32", -1.0)}, "gemma3")


def test_a_size_listed_for_each_layer_is_taken_when_all_agree() -> None:
    assert spec({"attention.head_count_kv": ("[i32]", [2, 2])}).n_kv_heads == 2


def test_sizes_that_differ_from_layer_to_layer_are_not_supported() -> None:
    with pytest.raises(UnsupportedModelError, match=r"2 to 4"):
        spec({"attention.head_count_kv": ("[i32]", [2, 4])})
