"""Damaged GGUF files by seed, and what must hold for every one of them.

Shared by the property tests (a few thousand mutants) and ``benchmarks/fuzz_gguf.py`` (as many as
wanted).
"""

from __future__ import annotations

import math
import random
import struct
import tempfile
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gguf_files import (
    CODES,
    EXTREMES,
    Key,
    Tensor,
    all_types_keys,
    gguf_bytes,
    text,
    type_bytes,
    value_bytes,
    write_valid,
)
from smallmind_engine.control import NO_LIMIT
from smallmind_engine.gguf import LAYOUTS, Header, dequantize, get_int, read_header
from smallmind_engine.gguf.metadata import Metadata
from smallmind_engine.model import transformer_spec
from smallmind_engine.telemetry.errors import (
    GgufFormatError,
    SmallMindError,
)
from smallmind_engine.tokenizers import TokenizerFactory
from tiny_models import FAMILIES, write_tiny_model

SOMEWHERE = Path("mutant.gguf")
HEADER_BYTES_FACTOR = 16
"""Most bytes that reading a header may allocate for each byte of the file."""
DEQUANTISED_FACTOR = 64
"""The same for a tensor: the densest type takes 1.125 bits a number, decoded in 32 bits."""
FIXED_BYTES = 256 * 1024
"""On top of both: error messages, tables of the decoders, the interpreter's own."""

_BOUNDARIES = tuple(
    (1 << bits) + step for bits in (0, 3, 7, 8, 15, 16, 31, 32, 62, 63, 64) for step in (-1, 0, 1)
)
_TEXT = "Hello, wörld 42!\n"


@dataclass(frozen=True, slots=True)
class Base:
    """A sound file that mutants are made of.

    Attributes:
        header_bytes: where the interesting part ends.
        counts: places that look like 64-bit lengths, counts or offsets.
        keys: the name of each metadata key as it stands there, and the bytes that all of it takes.
    """

    name: str
    content: bytes
    order: str
    header_bytes: int
    counts: tuple[int, ...]
    keys: tuple[tuple[bytes, int], ...]
    alignment: int


def _base(name: str, content: bytes) -> Base:
    header = read_header(content, SOMEWHERE, NO_LIMIT)
    order = "<" if header.byte_order == "little" else ">"
    counts = tuple(
        at
        for at in range(header.header_bytes - 8)
        if 0 < struct.unpack_from(order + "Q", content, at)[0] <= len(content)
    )
    assert isinstance(header.metadata, Metadata)
    begins = list(header.metadata.offsets.values())
    keys = tuple(
        (text(key, order), end - begin)
        for key, begin, end in zip(header.metadata, begins, begins[1:], strict=False)
    )
    alignment = get_int(header.metadata, "general.alignment", 32)
    return Base(name, content, order, header.header_bytes, counts, keys, alignment)


def _every_type(order: str) -> bytes:
    """Two blocks of random bytes of every type that there is in this byte order."""
    noise = random.Random(5)  # noqa: S311 - repeatable
    tensors = [
        Tensor(
            qtype.name,
            (layout.block_elements, 2),
            int(qtype),
            noise.randbytes(2 * layout.block_bytes),
        )
        for qtype, layout in LAYOUTS.items()
        if order == "<" or layout.swapped is not None
    ]
    keys: list[Key] = [("general.architecture", "str", "llama"), ("a", "u8", 0)]
    return gguf_bytes(keys, tensors, order=order)


def _token_table(model: str) -> bytes:
    """The metadata of a model whose vocabulary has scores, as SentencePiece makes them."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokens += ["▁", "e", "l", "o", "H", "ll", "▁H", "▁Hello", "wö", "4", "2"]
    control = [2, 3, 3] + [6] * 256
    keys: list[Key] = [
        ("general.architecture", "str", "llama"),
        ("llama.block_count", "u32", 2),
        ("llama.context_length", "u32", 64),
        ("llama.embedding_length", "u32", 8),
        ("llama.feed_forward_length", "u32", 16),
        ("llama.attention.head_count", "u32", 2),
        ("llama.attention.head_count_kv", "[i32]", [1, 1]),
        ("llama.attention.layer_norm_rms_epsilon", "f32", 1e-5),
        ("llama.rope.freq_base", "f32", 1e4),
        ("llama.rope.scaling.type", "str", "yarn"),
        ("llama.rope.scaling.factor", "f32", 4.0),
        ("llama.rope.scaling.original_context_length", "u32", 16),
        ("llama.rope.scaling.yarn_beta_fast", "f64", 32.0),
        ("llama.rope.scaling.yarn_beta_slow", "f64", 1.0),
        ("llama.rope.scaling.attn_factor", "f64", 1.0),
        ("tokenizer.ggml.model", "str", model),
        ("tokenizer.ggml.tokens", "[str]", tokens),
        ("tokenizer.ggml.scores", "[f32]", [-float(index) for index in range(len(tokens))]),
        ("tokenizer.ggml.token_type", "[i32]", control + [1] * (len(tokens) - len(control))),
        ("tokenizer.ggml.bos_token_id", "u32", 1),
        ("tokenizer.ggml.eos_token_id", "u32", 2),
        ("tokenizer.ggml.add_bos_token", "bool", 1),
        ("tokenizer.ggml.add_space_prefix", "bool", 1),
        ("tokenizer.ggml.remove_extra_whitespaces", "bool", 1),
        ("tokenizer.ggml.precompiled_charsmap", "[u8]", [8, 0, 0, 0, *range(8), 97, 0]),
        ("general.alignment", "u32", 32),
    ]
    return gguf_bytes(keys, [Tensor("token_embd.weight", (8, 4), data=bytes(128))])


def base_files() -> list[Base]:
    """Files of both byte orders, all value types, all tensor types, and whole tiny models."""
    tensors = [Tensor("a"), Tensor("b", (2, 2))]
    bases = [
        _base(
            f"values {order}", gguf_bytes(all_types_keys(), tensors, order=order, version=version)
        )
        for order, version in (("<", 3), (">", 3), ("<", 2))
    ]
    bases += [_base(f"every type {order}", _every_type(order)) for order in "<>"]
    bases += [_base(f"tokens of {model}", _token_table(model)) for model in ("llama", "t5")]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.gguf"
        for big_endian in (False, True):
            write_valid(path, big_endian=big_endian, alignment=64)
            bases.append(_base(f"written, big-endian: {big_endian}", path.read_bytes()))
        for family in ("llama", "llama-yarn", "llama3", "gemma3", "gpt2"):
            write_tiny_model(path, FAMILIES[family])
            bases.append(_base(family, path.read_bytes()))
    return bases


# -- mutations ---------------------------------------------------------------------------------

Mutation = Callable[[random.Random, bytearray, Base, Sequence[Base]], None]


def _place(rng: random.Random, content: bytearray, base: Base) -> int:
    """Mostly in the header, where each byte means something."""
    whole = len(content) <= base.header_bytes or rng.random() < 0.1
    return rng.randrange(max(1, len(content) if whole else base.header_bytes))


def _stretch(rng: random.Random, content: bytearray, base: Base) -> slice:
    begin = _place(rng, content, base)
    return slice(begin, begin + 2 ** rng.randrange(10))


def _flip_bit(rng: random.Random, content: bytearray, base: Base, _: Sequence[Base]) -> None:
    at = _place(rng, content, base)
    content[at : at + 1] = bytes(byte ^ (1 << rng.randrange(8)) for byte in content[at : at + 1])


def _set_byte(rng: random.Random, content: bytearray, base: Base, _: Sequence[Base]) -> None:
    at = _place(rng, content, base)
    content[at : at + 1] = bytes([rng.choice((0, 1, 8, 9, 127, 128, 255, rng.randrange(256)))])


def _boundary_value(rng: random.Random, content: bytearray, base: Base, _: Sequence[Base]) -> None:
    size = rng.choice((1, 2, 4, 8))
    at = _place(rng, content, base)
    if rng.random() < 0.5:
        at -= at % size
    value = rng.choice((*_BOUNDARIES, len(content), len(content) - at, rng.getrandbits(64)))
    order = "little" if rng.random() < 0.8 else "big"
    content[at : at + size] = (value % (1 << 8 * size)).to_bytes(size, order)


def _attack_count(rng: random.Random, content: bytearray, base: Base, _: Sequence[Base]) -> None:
    at = rng.choice(base.counts)
    if at + 8 > len(content):
        return
    (found,) = struct.unpack_from(base.order + "Q", content, at)
    near = found + rng.choice((-8, -1, 1, 8, 32, len(content)))
    value = rng.choice((near, found * 2, len(content) - at, rng.choice(_BOUNDARIES), -1, -found))
    struct.pack_into(base.order + "Q", content, at, value % (1 << 64))


def _truncate(rng: random.Random, content: bytearray, base: Base, _: Sequence[Base]) -> None:
    del content[_place(rng, content, base) if rng.random() < 0.7 else rng.randrange(len(content)) :]


def _duplicate(rng: random.Random, content: bytearray, base: Base, _: Sequence[Base]) -> None:
    stretch = _stretch(rng, content, base)
    content[stretch.start : stretch.start] = content[stretch]


def _delete(rng: random.Random, content: bytearray, base: Base, _: Sequence[Base]) -> None:
    del content[_stretch(rng, content, base)]


def _splice(rng: random.Random, content: bytearray, base: Base, bases: Sequence[Base]) -> None:
    other = rng.choice(bases)
    source = bytearray(other.content)
    stretch = _stretch(rng, content, base)
    begin = _place(rng, source, other)
    content[stretch] = source[begin : begin + stretch.stop - stretch.start]


def _other_value(rng: random.Random, content: bytearray, base: Base, _: Sequence[Base]) -> None:
    """A key gets a sound value of another type or size: what the model makes of it is tested."""
    name, n_bytes = rng.choice(base.keys)
    begin = content.find(name)
    if begin < 0:  # another mutation was faster
        return
    kind = rng.choice((*CODES, "str"))
    some = ("", "x", "gpt2", "llama", "none", "linear", b"\xff\xfe", "a b", "▁" * 50)
    if kind == "str":
        choices: tuple[object, ...] = some
    elif kind.startswith("f"):
        choices = (*EXTREMES[kind], 0.0, -0.0, 1.0, 1e-30, 1e30, math.nan, -math.inf, 4)
    else:
        choices = (*EXTREMES[kind], 0, 1, *((2, 3, 7, 64, 100) if kind != "bool" else ()))
    value: object = rng.choice(choices)
    if rng.random() < 0.3:
        value = rng.choices(choices, k=rng.choice((0, 1, 2, 3, 270)))
        kind = f"[{kind}]"
    entry = name + type_bytes(kind, base.order) + value_bytes(kind, value, base.order)
    content[begin : begin + n_bytes] = entry
    header_bytes = base.header_bytes + len(entry) - n_bytes
    data = base.content[base.header_bytes + -base.header_bytes % base.alignment :]
    content[header_bytes:] = bytes(-header_bytes % base.alignment) + data


MUTATIONS: tuple[Mutation, ...] = (
    _flip_bit,
    _set_byte,
    _boundary_value,
    _attack_count,
    _truncate,
    _duplicate,
    _delete,
    _splice,
    _other_value,
)
_WEIGHTS = (5, 5, 6, 6, 1, 1, 1, 2, 8)


def mutant(bases: Sequence[Base], seed: int, index: int) -> bytes:
    """The ``index``-th mutant of a seed; the same on every machine."""
    rng = random.Random(f"{seed}:{index}")  # noqa: S311 - repeatable
    base = rng.choice(bases)
    content = bytearray(base.content)
    for mutation in rng.choices(MUTATIONS, _WEIGHTS, k=rng.choice((1, 1, 1, 2, 3, 5))):
        if content:
            mutation(rng, content, base, bases)
    return bytes(content)


# -- what must hold ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Weights:
    """A ``WeightSource`` over a buffer."""

    content: bytes
    header: Header

    def has(self, name: str) -> bool:
        return name in self.header.tensors

    def shape(self, name: str) -> tuple[int, ...]:
        return self.header.tensors[name].shape

    def floats(
        self, name: str, *, rows: slice | None = None, out: np.ndarray | None = None
    ) -> np.ndarray:
        tensor = self.header.tensors[name]
        data = np.frombuffer(self.content, np.uint8, tensor.n_bytes, tensor.byte_start)
        big_endian = self.header.byte_order == "big"
        values = dequantize(data, tensor.qtype, tensor.shape, big_endian=big_endian)
        assert (values.shape, values.dtype) == (tensor.shape, np.float32)
        return values


def outcome(content: bytes, path: Path = SOMEWHERE) -> str:
    """Take a file through the reader, the decoders, the hyperparameters and the tokenizer.

    Returns:
        In a word or two, how it went.

    Raises:
        Exception: of any other family than ``SmallMindError``: a fault of the engine.
    """
    try:
        header = read_header(content, path, NO_LIMIT)
    except GgufFormatError as error:
        return _told(error, len(content))
    weights = _Weights(content, header)
    for name in header.tensors:
        weights.floats(name)
    if "general.architecture" not in header.metadata:
        return "read"
    spec, tokens = "spec", "tokenizer"
    try:
        transformer_spec(header.metadata, weights)
    except SmallMindError as error:
        spec = error.reason.value
    try:
        tokenizer = TokenizerFactory.create(header.metadata, strict=len(content) % 2 == 1)
        tokenizer.decode(tokenizer.encode(_TEXT))
    except SmallMindError as error:
        tokens = error.reason.value
    return f"read: {spec}, {tokens}"


def _told(error: GgufFormatError, file_bytes: int) -> str:
    """The reason of an error that also tells a place in the file, and is of readable length."""
    offset = error.details["offset"]
    assert isinstance(offset, int), error
    assert 0 <= offset <= file_bytes, error
    assert len(str(error)) < 2000, error
    return error.reason.value


def excess_bytes(content: bytes) -> int:
    """Peak of the allocations above what the reader and the decoders may take; at best negative."""
    tracemalloc.start()
    try:
        try:
            header = read_header(content, SOMEWHERE, NO_LIMIT)
        except GgufFormatError:
            header = None
        peak = tracemalloc.get_traced_memory()[1]
        excess = peak - HEADER_BYTES_FACTOR * len(content) - FIXED_BYTES
        if header is None:
            return excess
        weights = _Weights(content, header)
        for name, tensor in header.tensors.items():
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            weights.floats(name)
            peak = tracemalloc.get_traced_memory()[1] - before
            excess = max(excess, peak - DEQUANTISED_FACTOR * tensor.n_bytes - FIXED_BYTES)
        return excess
    finally:
        tracemalloc.stop()
