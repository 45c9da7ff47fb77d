"""An independent, slow forward pass: float64, one position at a time, no cache, complex RoPE.

It shares no code and no layout with the engine: heads are looped over, rotations are complex
multiplications in the file's own order of dimensions.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize


class Reference:
    """Args: path of a GGUF file of any supported family."""

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

    def get(self, key: str, default: object = None) -> object:
        return self.meta.get(f"{self.arch}.{key}", default)

    def logits(self, ids: list[int]) -> np.ndarray:
        """Logits after each token, shape (T, V)."""
        t, arch = self.tensors, self.arch
        width = self.get("embedding_length")
        x = t["token_embd.weight"][ids].copy()
        if arch.startswith("gemma"):
            x *= math.sqrt(width)
        if arch == "gpt2":
            x += t["position_embd.weight"][: len(ids)]
        for layer in range(self.get("block_count")):
            at = f"blk.{layer}."
            h = self.attention(layer, self.norm(x, at + "attn_norm"))
            if at + "post_attention_norm.weight" in t:
                h = self.norm(h, at + "post_attention_norm")
            x = x + h
            h = self.feed_forward(at, self.norm(x, at + "ffn_norm"))
            if at + "post_ffw_norm.weight" in t:
                h = self.norm(h, at + "post_ffw_norm")
            x = x + h
        x = self.norm(x, "output_norm")
        logits = x @ t.get("output.weight", t["token_embd.weight"]).T
        cap = self.get("final_logit_softcapping")
        return logits if not cap else cap * np.tanh(logits / cap)

    def norm(self, x: np.ndarray, name: str) -> np.ndarray:
        weight = self.tensors[name + ".weight"]
        if self.arch == "gpt2":
            centred = x - x.mean(-1, keepdims=True)
            eps = self.get("attention.layer_norm_epsilon")
            scaled = centred / np.sqrt(centred.var(-1, keepdims=True) + eps)
            return scaled * weight + self.tensors[name + ".bias"]
        eps = self.get("attention.layer_norm_rms_epsilon")
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * weight

    def linear(self, x: np.ndarray, name: str) -> np.ndarray:
        bias = self.tensors.get(name + ".bias", 0.0)
        return x @ self.tensors[name + ".weight"].T + bias

    def attention(self, layer: int, x: np.ndarray) -> np.ndarray:
        at = f"blk.{layer}."
        heads = self.get("attention.head_count")
        kv_heads = self.get("attention.head_count_kv", heads)
        dim = self.get("attention.key_length", self.get("embedding_length") // heads)
        if at + "attn_qkv.weight" in self.tensors:
            qkv = self.linear(x, at + "attn_qkv")
            q, k, v = np.split(qkv, [heads * dim, (heads + kv_heads) * dim], axis=-1)
        else:
            q, k, v = (self.linear(x, at + f"attn_{name}") for name in "qkv")
        window = self.window(layer)
        outputs = []
        for head in range(heads):
            kv = head * kv_heads // heads
            qh = q[:, head * dim : (head + 1) * dim]
            kh, vh = (m[:, kv * dim : (kv + 1) * dim] for m in (k, v))
            if at + "attn_q_norm.weight" in self.tensors:
                qh, kh = self.norm(qh, at + "attn_q_norm"), self.norm(kh, at + "attn_k_norm")
            qh, kh = self.rotate(layer, qh), self.rotate(layer, kh)
            rows = []
            for i in range(len(x)):
                first = max(0, i - window + 1)
                scores = kh[first : i + 1] @ qh[i] / math.sqrt(dim)
                cap = self.get("attn_logit_softcapping")
                if cap:
                    scores = cap * np.tanh(scores / cap)
                weights = np.exp(scores - scores.max())
                rows.append(weights / weights.sum() @ vh[first : i + 1])
            outputs.append(np.array(rows))
        return self.linear(np.concatenate(outputs, axis=-1), at + "attn_output")

    def window(self, layer: int) -> int:
        size = self.get("attention.sliding_window", 0)
        period = {"gemma2": 2, "gemma3": 6}.get(self.arch)
        windowed = size and (period is None or (layer + 1) % period != 0)
        return size if windowed else 1 << 30

    def rotate(self, layer: int, x: np.ndarray) -> np.ndarray:
        if self.arch == "gpt2":
            return x
        dims = self.get("rope.dimension_count")
        base = self.get("rope.freq_base", 10000.0)
        factor = self.get("rope.scaling.factor", 1.0)
        if self.arch == "gemma3" and self.window(layer) < 1 << 30:
            base, factor = 10000.0, 1.0
        magnitude = 1.0
        speeds = np.array([base ** (-2 * i / dims) for i in range(dims // 2)])
        if self.get("rope.scaling.type") == "yarn":
            original = self.get("rope.scaling.original_context_length")
            low = math.floor(dims * math.log(original / (32 * 2 * math.pi)) / 2 / math.log(base))
            high = math.ceil(dims * math.log(original / (2 * math.pi)) / 2 / math.log(base))
            low, high = max(low, 0), min(high, dims - 1)
            mixed = []
            for i, speed in enumerate(speeds):
                ramp = min(1.0, max(0.0, (i - low) / max(0.001, high - low)))
                mixed.append(speed / factor * ramp + speed * (1 - ramp))
            speeds = np.array(mixed)
            magnitude = 1.0 + 0.1 * math.log(factor)
        else:
            speeds = speeds / factor
        speeds = speeds / self.tensors.get("rope_freqs.weight", 1.0)
        turns = magnitude * np.exp(1j * np.arange(len(x))[:, None] * speeds)
        out = x.copy()
        if self.arch == "llama":
            turned = (x[:, 0:dims:2] + 1j * x[:, 1:dims:2]) * turns
            out[:, 0:dims:2], out[:, 1:dims:2] = turned.real, turned.imag
        else:
            half = dims // 2
            turned = (x[:, :half] + 1j * x[:, half:dims]) * turns
            out[:, :half], out[:, half:dims] = turned.real, turned.imag
        return out

    def feed_forward(self, at: str, x: np.ndarray) -> np.ndarray:
        up = self.linear(x, at + "ffn_up")
        if self.arch == "gpt2":
            return self.linear(gelu(up), at + "ffn_down")
        if at + "ffn_gate.weight" in self.tensors:
            gate = self.linear(x, at + "ffn_gate")
        else:
            gate, up = np.split(up, 2, axis=-1)
        act = gelu(gate) if self.arch.startswith("gemma") else gate / (1 + np.exp(-gate))
        return self.linear(act * up, at + "ffn_down")


def gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
