"""Models with the shape of a 1B-parameter llama and random weights, written once and kept.

    python tests/benchmarks/synthetic_models.py [--cache DIR] [NAME ...]

A name is one of ``llama-1b-q4_0``, ``llama-1b-q8_0`` and ``llama-1b-q4_k``. The types of the
tensors are those that llama.cpp's own quantiser chooses, but that a Q4_K file has all of its
matrices in Q4_K. The vocabulary is made up; llama.cpp and smallmind both load it.
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType, TokenType
from random_blocks import random_blocks, row_bytes

DEFAULT_CACHE = Path("~/.cache/smallmind/bench")
REVISION = 1
"""Part of the file names: count up when the content changes."""

SPECIALS = ("<unk>", "<s>", "</s>")
SEED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Of a llama; its embedding is its output matrix too."""

    width: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab_size: int
    context_length: int

    def matrices(self) -> Iterator[tuple[str, int, int]]:
        """Names, rows and columns of all matrices, in the order of the file."""
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        yield "token_embd", self.vocab_size, self.width
        for index in range(self.layers):
            at = f"blk.{index}."
            yield at + "attn_q", queries, self.width
            yield at + "attn_k", keys, self.width
            yield at + "attn_v", keys, self.width
            yield at + "attn_output", self.width, queries
            yield at + "ffn_gate", self.ffn, self.width
            yield at + "ffn_up", self.ffn, self.width
            yield at + "ffn_down", self.width, self.ffn

    def gains(self) -> Iterator[str]:
        """Names of all norms' gains."""
        yield "output_norm"
        for index in range(self.layers):
            yield from (f"blk.{index}.attn_norm", f"blk.{index}.ffn_norm")


LLAMA_1B = Shape(
    width=2048,
    layers=16,
    heads=32,
    kv_heads=8,
    head_dim=64,
    ffn=8192,
    vocab_size=32000,
    context_length=4096,
)
TINY = Shape(
    width=256,
    layers=2,
    heads=4,
    kv_heads=2,
    head_dim=64,
    ffn=512,
    vocab_size=320,
    context_length=128,
)
"""For tests; as narrow as blocks of 256 weights allow."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """The types of a file's tensors."""

    matrices: GGMLQuantizationType
    embedding: GGMLQuantizationType
    file_type: LlamaFileType


RECIPES: dict[str, Recipe] = {
    "q4_0": Recipe(GGMLQuantizationType.Q4_0, GGMLQuantizationType.Q6_K, LlamaFileType.MOSTLY_Q4_0),
    "q8_0": Recipe(GGMLQuantizationType.Q8_0, GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0),
    "q4_k": Recipe(
        GGMLQuantizationType.Q4_K, GGMLQuantizationType.Q6_K, LlamaFileType.MOSTLY_Q4_K_S
    ),
}
PREFIX = "llama-1b-"
NAMES = tuple(PREFIX + recipe for recipe in RECIPES)


def synthetic_model(name: str, cache: Path) -> Path:
    """The file of that name, written into ``cache`` when it is not there yet."""
    path = cache.expanduser() / f"{name}.r{REVISION}.gguf"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_model(path, LLAMA_1B, RECIPES[name.removeprefix(PREFIX)])
    return path


def write_model(path: Path, shape: Shape, recipe: Recipe) -> Path:
    """Write a model tensor by tensor; an unfinished file has another name."""
    partial = path.with_name(path.name + ".partial")
    writer = GGUFWriter(str(partial), "llama")
    _add_hyperparameters(writer, shape, recipe)
    _add_vocabulary(writer, shape.vocab_size)
    for name in shape.gains():
        writer.add_tensor_info(
            f"{name}.weight", (shape.width,), np.dtype(np.float32), shape.width * 4
        )
    for name, rows, columns in shape.matrices():
        qtype = _type_of(name, recipe)
        size = row_bytes(columns, qtype)
        writer.add_tensor_info(
            f"{name}.weight", (rows, size), np.dtype(np.uint8), rows * size, raw_dtype=qtype
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for _ in shape.gains():
        writer.write_tensor_data(np.ones(shape.width, np.float32))
    for name, rows, columns in shape.matrices():
        rng = np.random.default_rng((SEED, zlib.crc32(name.encode())))
        writer.write_tensor_data(random_blocks(rng, rows, columns, _type_of(name, recipe)))
    writer.close()
    return partial.replace(path)


def _type_of(name: str, recipe: Recipe) -> GGMLQuantizationType:
    return recipe.embedding if name == "token_embd" else recipe.matrices


def _add_hyperparameters(writer: GGUFWriter, shape: Shape, recipe: Recipe) -> None:
    writer.add_name("random llama")
    writer.add_file_type(recipe.file_type)
    writer.add_quantization_version(2)
    writer.add_context_length(shape.context_length)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.ffn)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(shape.vocab_size)


def _add_vocabulary(writer: GGUFWriter, size: int) -> None:
    """Special tokens, a token for each byte, and made-up words up to the size."""
    fixed = [*SPECIALS, *(f"<0x{byte:02X}>" for byte in range(256))]
    words = [f"▁w{number}" for number in range(size - len(fixed))]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(fixed + words)
    writer.add_token_scores([0.0] * len(fixed) + [-float(rank) for rank in range(len(words))])
    writer.add_token_types(
        [TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL]
        + [TokenType.BYTE] * 256
        + [TokenType.NORMAL] * len(words)
    )
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


def main() -> None:
    """Write the named models."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", default=NAMES)
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE)
    arguments = parser.parse_args()
    for name in arguments.names:
        if name not in NAMES:
            parser.error(f"no model {name!r}; known: {', '.join(NAMES)}")
        path = synthetic_model(name, arguments.cache)
        print(f"{name}: {path.stat().st_size / 1e6:.0f} MB, {path}")


if __name__ == "__main__":
    main()
