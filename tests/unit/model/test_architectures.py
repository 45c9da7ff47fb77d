"""What a file says of its model is read strictly, and refused with names and numbers."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from smallmind_engine.gguf import GgufFile
from smallmind_engine.kernels import (
    ModelRunner,
    PrepareRequest,
    RopeLayout,
    TransformerSpec,
    WeightsMode,
    backend_names,
    get_backend,
)
from smallmind_engine.memory import BudgetEnforcer
from smallmind_engine.model import (
    ARCHITECTURES,
    GgufWeights,
    LoadOptions,
    load_model,
    transformer_spec,
)
from smallmind_engine.telemetry import EventBus, ReasonCode
from smallmind_engine.telemetry.errors import (
    ConfigError,
    GgufFormatError,
    ModelFileError,
    UnsupportedModelError,
)
from tiny_encoders import ENCODERS
from tiny_models import CONTEXT, FAMILIES, HEAD_DIM, TinyModel, random_tensors, write_tiny_model


def spec_of(
    path: Path, model: TinyModel, changes: dict[str, object] | None = None
) -> TransformerSpec:
    with GgufFile.open(write_tiny_model(path / "tiny.gguf", model)) as file:
        metadata = {**file.metadata, **(changes or {})}
        metadata = {key: value for key, value in metadata.items() if value is not None}
        return transformer_spec(metadata, GgufWeights(file))


def prepare(path: Path, tensors: dict[str, np.ndarray | None]) -> ModelRunner:
    """Prepare a llama model with some tensors replaced, or taken out."""
    model = TinyModel("llama", tied=False)
    kept = {**random_tensors(model), **tensors}

    class Source:
        def has(self, name: str) -> bool:
            return kept.get(name) is not None

        def shape(self, name: str) -> tuple[int, ...]:
            return kept[name].shape

        def floats(
            self, name: str, *, rows: object = None, out: object = None, limit: object = None
        ) -> np.ndarray:
            values = kept[name] if rows is None else kept[name][rows]
            if out is None:
                return values.copy()
            out[...] = values
            return out

        def release(self, name: str) -> None:
            pass

    backend = get_backend("numpy")
    return backend.prepare(
        spec_of(path, model), Source(), PrepareRequest(mode=WeightsMode.RESIDENT)
    )


def test_every_family_is_tested() -> None:
    tested = {model.architecture for model in (*FAMILIES.values(), *ENCODERS.values())}
    assert tested == set(ARCHITECTURES)


@pytest.mark.parametrize(
    ("key", "value", "error"),
    [
        ("llama.block_count", 0, GgufFormatError),
        ("llama.block_count", "two", GgufFormatError),
        ("llama.block_count", None, GgufFormatError),
        ("llama.embedding_length", -1, GgufFormatError),
        ("llama.attention.head_count", 3, GgufFormatError),
        ("llama.attention.head_count_kv", np.array([1, 2]), UnsupportedModelError),
        ("llama.rope.dimension_count", 7, GgufFormatError),
        ("llama.rope.dimension_count", 64, GgufFormatError),
        ("llama.rope.scaling.type", "sideways", UnsupportedModelError),
        ("llama.rope.freq_base", float("nan"), GgufFormatError),
        ("llama.expert_count", 8, UnsupportedModelError),
        ("general.architecture", None, GgufFormatError),
        ("general.architecture", "mamba", UnsupportedModelError),
    ],
)
def test_a_bad_value_is_named(
    tmp_path: Path, key: str, value: object, error: type[Exception]
) -> None:
    with pytest.raises(error) as caught:
        spec_of(tmp_path, TinyModel(), {key: value})
    message = str(caught.value)
    assert key.split(".", maxsplit=1)[1] in message or str(value) in message


def test_values_listed_for_each_layer_may_agree(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, TinyModel(), {"llama.attention.head_count_kv": np.array([2, 2])})
    assert spec.n_kv_heads == 2


def test_gemma3_alternates_windows_and_rope_bases(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, FAMILIES["gemma3"])
    assert [layer.window for layer in spec.layers] == [8] * 5 + [None, 8]
    local, everywhere = spec.layers[0].rope, spec.layers[5].rope
    assert local is not None
    assert everywhere is not None
    assert local.inverse_frequencies[1] == pytest.approx(10_000 ** (-2 / HEAD_DIM))
    assert everywhere.inverse_frequencies[1] == pytest.approx(1e6 ** (-2 / HEAD_DIM))


def test_a_file_may_tell_its_own_pattern_of_windows(tmp_path: Path) -> None:
    listed = np.array([True, False, True, False, True, False, True])
    key = "gemma3.attention.sliding_window_pattern"
    spec = spec_of(tmp_path, FAMILIES["gemma3"], {key: listed})
    assert [layer.window is not None for layer in spec.layers] == listed.tolist()
    spec = spec_of(tmp_path, FAMILIES["gemma3"], {key: 2})
    assert [layer.window is None for layer in spec.layers] == [False, True] * 3 + [False]


def test_gpt2_has_positions_instead_of_rotation(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, FAMILIES["gpt2"])
    assert spec.rope_layout is RopeLayout.NONE
    assert spec.learned_positions
    assert all(layer.rope is None for layer in spec.layers)


def test_factors_of_the_wrong_number_are_refused(tmp_path: Path) -> None:
    model = dataclasses.replace(
        FAMILIES["llama3"], tensors={"rope_freqs.weight": np.ones(3, np.float32)}
    )
    with pytest.raises(GgufFormatError, match=r"rope_freqs"):
        spec_of(tmp_path, model)


def test_longrope_takes_the_factors_for_the_context_in_use(tmp_path: Path) -> None:
    half = HEAD_DIM // 2
    model = TinyModel(
        "phi3",
        metadata={"rope.scaling.original_context_length": 64, "rope.scaling.attn_factor": 1.2},
        tensors={
            "rope_factors_short.weight": np.full(half, 2.0, np.float32),
            "rope_factors_long.weight": np.full(half, 4.0, np.float32),
        },
    )
    path = write_tiny_model(tmp_path / "tiny.gguf", model)
    with GgufFile.open(path) as file:
        source = GgufWeights(file)
        speeds = [
            transformer_spec(file.metadata, source, context).layers[0].rope
            for context in (32, CONTEXT)
        ]
    assert [rope.inverse_frequencies[0] for rope in speeds if rope] == [0.5, 0.25]
    assert [rope.magnitude for rope in speeds if rope] == pytest.approx([1.2, 1.2])


@pytest.mark.parametrize(
    "name",
    ["token_embd.weight", "blk.1.attn_q.weight", "blk.0.ffn_norm.weight", "output_norm.weight"],
)
def test_a_missing_tensor_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelFileError, match=name) as caught:
        prepare(tmp_path, {name: None})
    assert caught.value.reason is ReasonCode.MODEL_TENSOR_MISSING


@pytest.mark.parametrize("name", ["blk.1.attn_q.weight", "blk.0.attn_norm.weight", "output.weight"])
def test_a_tensor_of_the_wrong_shape_is_named(tmp_path: Path, name: str) -> None:
    shape = (3,) if "norm" in name else (3, 5)
    with pytest.raises(ModelFileError, match=name) as caught:
        prepare(tmp_path, {name: np.zeros(shape, np.float32)})
    assert caught.value.reason is ReasonCode.GGUF_TENSOR_SHAPE


def test_a_bias_of_one_part_of_a_joined_matrix_is_enough(tmp_path: Path) -> None:
    prepare(tmp_path, {"blk.0.attn_k.bias": np.ones(2 * HEAD_DIM, np.float32)})


def test_unknown_backends_are_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="numpy"):
        get_backend("cuda")
    assert backend_names()[0] == "auto"


def test_learned_positions_bound_the_context(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "tiny.gguf", FAMILIES["gpt2"])
    with pytest.raises(ConfigError, match=f"1 to {CONTEXT}"):
        load_model(
            path,
            LoadOptions(context_length=CONTEXT + 1),
            BudgetEnforcer(),
            EventBus().emitter(),
        )
