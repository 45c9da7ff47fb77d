"""Tiny models of every family as real GGUF files, with random weights, written by `gguf`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, TokenType
from gguf.quants import quantize

WIDTH = 64
HEADS = 4
KV_HEADS = 2
HEAD_DIM = 16
FFN = 96
CONTEXT = 256
EPS = 1e-5

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MERGES = (("t", "h"), ("th", "e"), ("Ġ", "the"), ("a", "n"), ("an", "d"), ("Ġ", "and"), ("i", "n"))


def byte_alphabet() -> list[str]:
    """The printable stand-ins for the 256 bytes, in the order of the bytes (as in GPT-2)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    names = {byte: chr(byte) for byte in printable}
    names |= {byte: chr(256 + index) for index, byte in enumerate(others)}
    return [names[byte] for byte in range(256)]


def vocabulary() -> list[str]:
    """Special tokens, the bytes, and what the merges make."""
    return [*SPECIALS, *byte_alphabet(), *("".join(merge) for merge in MERGES)]


@dataclass(frozen=True, slots=True)
class TinyModel:
    """What to write.

    Attributes:
        architecture: the family.
        layers: how many.
        metadata: further keys under the architecture's name, by type from the value's.
        seed: of the weights.
        scale: standard deviation of the weights; larger is more decided.
        chat_template: None for a model without one.
        named_templates: further chat templates, by name.
        extra_tokens: control tokens after the vocabulary.
        context: positions.
        tokenizer: ``gpt2`` (byte-level BPE) or ``llama`` (token table); both have as many tokens.
        qtype: of the matrices, one that ``gguf`` can quantise to; None for float32.
    """

    architecture: str = "llama"
    layers: int = 2
    metadata: dict[str, int | float | str] = field(default_factory=dict)
    seed: int = 0
    scale: float = 0.2
    tied: bool = True
    qkv_bias: bool = False
    chat_template: str | None = CHATML
    tokenizer: str = "gpt2"
    tensors: dict[str, np.ndarray] = field(default_factory=dict)
    named_templates: dict[str, str] = field(default_factory=dict)
    extra_tokens: tuple[str, ...] = ()
    context: int = CONTEXT
    qtype: GGMLQuantizationType | None = None


FAMILIES: dict[str, TinyModel] = {
    "llama": TinyModel("llama", tied=False),
    "llama-linear": TinyModel(
        "llama", metadata={"rope.scaling.type": "linear", "rope.scaling.factor": 4.0}
    ),
    "llama-yarn": TinyModel(
        "llama",
        metadata={
            "rope.scaling.type": "yarn",
            "rope.scaling.factor": 4.0,
            "rope.scaling.original_context_length": 64,
        },
    ),
    "llama3": TinyModel(
        "llama",
        tensors={"rope_freqs.weight": np.linspace(1.0, 8.0, HEAD_DIM // 2, dtype=np.float32)},
    ),
    "qwen2": TinyModel("qwen2", qkv_bias=True),
    "qwen3": TinyModel("qwen3"),
    "gemma2": TinyModel(
        "gemma2",
        layers=3,
        metadata={
            "attn_logit_softcapping": 50.0,
            "final_logit_softcapping": 30.0,
            "attention.sliding_window": 8,
        },
    ),
    "gemma3": TinyModel(
        "gemma3", layers=7, metadata={"attention.sliding_window": 8, "rope.freq_base": 1e6}
    ),
    "phi3": TinyModel("phi3", tied=False),
    "gpt2": TinyModel("gpt2", qkv_bias=True),
}


def write_tiny_model(path: Path, model: TinyModel | None = None) -> Path:
    """Write the file; answers ``path``."""
    model = model or TinyModel()
    arch = model.architecture
    writer = GGUFWriter(str(path), arch)
    writer.add_name("tiny")
    writer.add_context_length(model.context)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(model.layers)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    if arch != "gpt2":
        writer.add_head_count_kv(KV_HEADS)
        writer.add_key_length(HEAD_DIM)
        writer.add_value_length(HEAD_DIM)
        writer.add_rope_dimension_count(HEAD_DIM)
        writer.add_layer_norm_rms_eps(EPS)
    else:
        writer.add_layer_norm_eps(EPS)
    for key, value in model.metadata.items():
        add = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
        add[type(value)](f"{arch}.{key}", value)
    _add_tokenizer(writer, model)
    for name, values in {**random_tensors(model), **model.tensors}.items():
        if model.qtype is not None and values.ndim == 2:
            writer.add_tensor(name, quantize(values, model.qtype), raw_dtype=model.qtype)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def token_table() -> list[str]:
    """A SentencePiece-style vocabulary: specials, bytes, and a few words."""
    words = ("▁the", "▁and", "▁in", "▁", "a", "b", "c")
    return ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *words]


def _add_token_table(writer: GGUFWriter) -> None:
    tokens = token_table()
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * 259 + [-float(rank) for rank in range(len(tokens) - 259)])
    writer.add_token_types(
        [TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL]
        + [TokenType.BYTE] * 256
        + [TokenType.NORMAL] * (len(tokens) - 259)
    )
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)


def _add_tokenizer(writer: GGUFWriter, model: TinyModel) -> None:
    if model.tokenizer == "llama":
        _add_token_table(writer)
        return
    tokens = [*vocabulary(), *model.extra_tokens]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    control = len(SPECIALS)
    writer.add_token_types(
        [TokenType.CONTROL] * control
        + [TokenType.NORMAL] * (len(vocabulary()) - control)
        + [TokenType.CONTROL] * len(model.extra_tokens)
    )
    writer.add_token_merges([" ".join(merge) for merge in MERGES])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_add_bos_token(value=False)
    if model.chat_template is not None:
        writer.add_chat_template(model.chat_template)
    if model.named_templates:
        writer.add_array("tokenizer.chat_templates", list(model.named_templates))
        for name, template in model.named_templates.items():
            writer.add_string(f"tokenizer.chat_template.{name}", template)


def random_tensors(model: TinyModel) -> dict[str, np.ndarray]:  # noqa: C901 - one branch a family
    """The tensors of a family, by name."""
    rng = np.random.default_rng(model.seed)
    arch = model.architecture

    def matrix(rows: int, columns: int) -> np.ndarray:
        return (rng.standard_normal((rows, columns)) * model.scale).astype(np.float32)

    def gain(size: int) -> np.ndarray:
        return (1.0 + 0.1 * rng.standard_normal(size)).astype(np.float32)

    def bias(size: int) -> np.ndarray:
        return (0.1 * rng.standard_normal(size)).astype(np.float32)

    vocab = len(vocabulary()) + len(model.extra_tokens)
    gpt2 = arch == "gpt2"
    kv_heads = HEADS if gpt2 else KV_HEADS
    queries, keys = HEADS * HEAD_DIM, kv_heads * HEAD_DIM
    tensors = {"token_embd.weight": matrix(vocab, WIDTH), "output_norm.weight": gain(WIDTH)}
    if not model.tied:
        tensors["output.weight"] = matrix(vocab, WIDTH)
    if gpt2:
        tensors["position_embd.weight"] = matrix(model.context, WIDTH)
        tensors["output_norm.bias"] = bias(WIDTH)
    for index in range(model.layers):
        at = f"blk.{index}."
        tensors[at + "attn_norm.weight"] = gain(WIDTH)
        tensors[at + "ffn_norm.weight"] = gain(WIDTH)
        tensors[at + "attn_output.weight"] = matrix(WIDTH, queries)
        tensors[at + "ffn_down.weight"] = matrix(WIDTH, FFN)
        if arch in {"phi3", "gpt2"}:
            tensors[at + "attn_qkv.weight"] = matrix(queries + 2 * keys, WIDTH)
            tensors[at + "ffn_up.weight"] = matrix(FFN if gpt2 else 2 * FFN, WIDTH)
        else:
            for name, rows in (("q", queries), ("k", keys), ("v", keys)):
                tensors[at + f"attn_{name}.weight"] = matrix(rows, WIDTH)
                if model.qkv_bias:
                    tensors[at + f"attn_{name}.bias"] = bias(rows)
            tensors[at + "ffn_gate.weight"] = matrix(FFN, WIDTH)
            tensors[at + "ffn_up.weight"] = matrix(FFN, WIDTH)
        if gpt2:
            tensors[at + "attn_norm.bias"] = bias(WIDTH)
            tensors[at + "ffn_norm.bias"] = bias(WIDTH)
            tensors[at + "attn_qkv.bias"] = bias(3 * queries)
            tensors[at + "attn_output.bias"] = bias(WIDTH)
            tensors[at + "ffn_up.bias"] = bias(FFN)
            tensors[at + "ffn_down.bias"] = bias(WIDTH)
        if arch in {"qwen3", "gemma3"}:
            tensors[at + "attn_q_norm.weight"] = gain(HEAD_DIM)
            tensors[at + "attn_k_norm.weight"] = gain(HEAD_DIM)
        if arch in {"gemma2", "gemma3"}:
            tensors[at + "post_attention_norm.weight"] = gain(WIDTH)
            tensors[at + "post_ffw_norm.weight"] = gain(WIDTH)
    return tensors
