"""An independent, slow encoder: float64, one head at a time. It shares no code with the engine."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize

_erf = np.vectorize(math.erf)


class ReferenceEncoder:
    """Args: path of a GGUF file of an encoder."""

    def __init__(self, path: Path) -> None:
        reader = GGUFReader(str(path))
        self.meta = {
            key: reader.fields[key].contents()
            for key in reader.fields
            if not key.startswith("tokenizer.")
        }
        self.arch = self.meta["general.architecture"]
        self.tensors = {
            tensor.name: np.asarray(
                dequantize(tensor.data, tensor.tensor_type), np.float64
            ).reshape(tuple(int(n) for n in reversed(tensor.shape)))
            for tensor in reader.tensors
        }

    def get(self, key: str) -> object:
        return self.meta[f"{self.arch}.{key}"]

    def states(self, ids: list[int]) -> np.ndarray:
        """States of all tokens, shape (T, C)."""
        t = self.tensors
        x = t["token_embd.weight"][ids] + t["token_types.weight"][0]
        if "position_embd.weight" in t:
            x = x + t["position_embd.weight"][: len(ids)]
        x = self.norm(x, "token_embd_norm")
        for layer in range(self.get("block_count")):
            at = f"blk.{layer}."
            x = self.norm(x + self.attention(at, x), at + "attn_output_norm")
            x = self.norm(x + self.feed_forward(at, x), at + "layer_output_norm")
        return x

    def norm(self, x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt(
            centred.var(-1, keepdims=True) + self.get("attention.layer_norm_epsilon")
        )
        return scaled * self.tensors[name + ".weight"] + self.tensors[name + ".bias"]

    def linear(self, x: np.ndarray, name: str) -> np.ndarray:
        return x @ self.tensors[name + ".weight"].T + self.tensors.get(name + ".bias", 0.0)

    def attention(self, at: str, x: np.ndarray) -> np.ndarray:
        heads = self.get("attention.head_count")
        dim = x.shape[1] // heads
        if at + "attn_qkv.weight" in self.tensors:
            q, k, v = np.split(self.linear(x, at + "attn_qkv"), 3, axis=-1)
        else:
            q, k, v = (self.linear(x, at + f"attn_{name}") for name in "qkv")
        outputs = []
        for head in range(heads):
            own = slice(head * dim, (head + 1) * dim)
            qh, kh = (self.rotate(m[:, own]) for m in (q, k))
            scores = qh @ kh.T / math.sqrt(dim)
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            outputs.append(weights / weights.sum(-1, keepdims=True) @ v[:, own])
        return self.linear(np.concatenate(outputs, axis=-1), at + "attn_output")

    def rotate(self, x: np.ndarray) -> np.ndarray:
        if self.arch == "bert":
            return x
        half = x.shape[1] // 2
        speeds = 10000.0 ** (-np.arange(half) / half)
        turns = np.exp(1j * np.arange(len(x))[:, None] * speeds)
        turned = (x[:, :half] + 1j * x[:, half:]) * turns
        return np.concatenate([turned.real, turned.imag], axis=1)

    def feed_forward(self, at: str, x: np.ndarray) -> np.ndarray:
        up = self.linear(x, at + "ffn_up")
        if at + "ffn_gate.weight" in self.tensors:
            gate = self.linear(x, at + "ffn_gate")
            up = gate / (1.0 + np.exp(-gate)) * up
        else:
            up = 0.5 * up * (1.0 + _erf(up / math.sqrt(2.0)))
        return self.linear(up, at + "ffn_down")
