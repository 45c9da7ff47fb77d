"""Tiny encoders of every family as real GGUF files, with random weights, written by `gguf`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, PoolingType, TokenType
from gguf.quants import quantize

WIDTH = 64
HEADS = 4
LAYERS = 2
FFN = 96
CONTEXT = 64
EPS = 1e-12
SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = ("the", "cat", "sat", "on", "mat", "un", "aff", "able", "play", "run", "is", "it")
ENDINGS = ("##ing", "##able", "##aff", "##er", "##ed")
LETTERS = tuple("abcdefghijklmnopqrstuvwxyz0123456789.,!?-'")
_TIED_TO_TEXT = {"position_embd.weight", "token_types.weight"}


def bert_vocabulary() -> list[str]:
    """In the form of BERT's own files."""
    letters = [*LETTERS, *(f"##{letter}" for letter in LETTERS)]
    return [*SPECIALS, *WORDS, *ENDINGS, *letters, "中", "é"]


def marked(entry: str) -> str:
    """In the form of GGUF files, which mark the beginnings of words."""
    if entry in SPECIALS:
        return entry
    return entry[2:] if entry.startswith("##") else f"\u2581{entry}"


def bert_metadata(tokens: list[str] | None = None, **changes: object) -> dict[str, object]:
    """What a GGUF file says of a WordPiece tokenizer; ``changes`` of None leave a key out."""
    entries = bert_vocabulary()
    metadata: dict[str, object] = {
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.tokens": tokens or [marked(entry) for entry in entries],
        "tokenizer.ggml.token_type": token_types(entries),
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.ggml.unknown_token_id": 1,
        "tokenizer.ggml.cls_token_id": 2,
        "tokenizer.ggml.seperator_token_id": 3,
    }
    metadata |= {f"tokenizer.ggml.{key}": value for key, value in changes.items()}
    return {key: value for key, value in metadata.items() if value is not None}


def token_types(entries: list[str]) -> list[int]:
    """Special tokens are control tokens."""
    return [TokenType.CONTROL if entry in SPECIALS else TokenType.NORMAL for entry in entries]


@dataclass(frozen=True, slots=True)
class TinyEncoder:
    """What to write.

    Attributes:
        architecture: the family.
        pooling: what the file says that it was trained for; None for nothing.
        qtype: of the matrices; None for float32.
        tensors: that replace the random ones.
    """

    architecture: str = "bert"
    pooling: PoolingType | None = PoolingType.MEAN
    qtype: GGMLQuantizationType | None = None
    tensors: dict[str, np.ndarray] = field(default_factory=dict)


ENCODERS: dict[str, TinyEncoder] = {
    "bert": TinyEncoder(),
    "nomic-bert": TinyEncoder("nomic-bert"),
}


def write_tiny_encoder(path: Path, model: TinyEncoder | None = None) -> Path:
    """Write the file; answers ``path``."""
    model = model or TinyEncoder()
    writer = GGUFWriter(str(path), model.architecture)
    writer.add_name("tiny encoder")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_layer_norm_eps(EPS)
    writer.add_causal_attention(value=False)
    if model.pooling is not None:
        writer.add_pooling_type(model.pooling)
    entries = bert_vocabulary()
    writer.add_tokenizer_model("bert")
    writer.add_token_list([marked(entry) for entry in entries])
    writer.add_token_types(token_types(entries))
    writer.add_bos_token_id(2)  # as today's converters name [CLS]
    writer.add_sep_token_id(3)
    writer.add_unk_token_id(1)
    writer.add_pad_token_id(0)
    for name, values in {**random_encoder(model), **model.tensors}.items():
        if model.qtype is not None and values.ndim == 2 and name not in _TIED_TO_TEXT:
            writer.add_tensor(name, quantize(values, model.qtype), raw_dtype=model.qtype)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def random_encoder(model: TinyEncoder) -> dict[str, np.ndarray]:
    """The tensors of a family, by name."""
    rng = np.random.default_rng(5)

    def matrix(rows: int, columns: int) -> np.ndarray:
        return (rng.standard_normal((rows, columns)) * 0.2).astype(np.float32)

    def vector(size: int, around: float = 0.0) -> np.ndarray:
        return (around + 0.1 * rng.standard_normal(size)).astype(np.float32)

    tensors = {
        "token_embd.weight": matrix(len(bert_vocabulary()), WIDTH),
        "token_types.weight": matrix(2, WIDTH),
        "token_embd_norm.weight": vector(WIDTH, 1.0),
        "token_embd_norm.bias": vector(WIDTH),
    }
    bert = model.architecture == "bert"
    if bert:
        tensors["position_embd.weight"] = matrix(CONTEXT, WIDTH)
    for index in range(LAYERS):
        at = f"blk.{index}."
        shapes = {"attn_output": (WIDTH, WIDTH), "ffn_up": (FFN, WIDTH), "ffn_down": (WIDTH, FFN)}
        if bert:
            shapes |= dict.fromkeys(("attn_q", "attn_k", "attn_v"), (WIDTH, WIDTH))
        else:
            shapes |= {"attn_qkv": (3 * WIDTH, WIDTH), "ffn_gate": (FFN, WIDTH)}
        for name, shape in shapes.items():
            tensors[f"{at}{name}.weight"] = matrix(*shape)
            if bert:
                tensors[f"{at}{name}.bias"] = vector(shape[0])
        for name in ("attn_output_norm", "layer_output_norm"):
            tensors[f"{at}{name}.weight"] = vector(WIDTH, 1.0)
            tensors[f"{at}{name}.bias"] = vector(WIDTH)
    return tensors
