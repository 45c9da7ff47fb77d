"""Builders of small GGUF files: byte by byte for hostile ones, by the `gguf` package for valid."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType, GGUFEndian, GGUFValueType, GGUFWriter

TYPE_NUMBERS = {
    "u8": 0,
    "i8": 1,
    "u16": 2,
    "i16": 3,
    "u32": 4,
    "i32": 5,
    "f32": 6,
    "bool": 7,
    "str": 8,
    "u64": 10,
    "i64": 11,
    "f64": 12,
}
ARRAY = 9
CODES = {
    "u8": "B",
    "i8": "b",
    "u16": "H",
    "i16": "h",
    "u32": "I",
    "i32": "i",
    "f32": "f",
    "bool": "B",
    "u64": "Q",
    "i64": "q",
    "f64": "d",
}
EXTREMES: dict[str, tuple[int | float, ...]] = {
    "u8": (0, 255),
    "i8": (-128, 127),
    "u16": (0, 65535),
    "i16": (-32768, 32767),
    "u32": (0, 2**32 - 1),
    "i32": (-(2**31), 2**31 - 1),
    "f32": (0.0, -1.5, float("inf")),
    "bool": (0, 1),
    "u64": (0, 2**64 - 1),
    "i64": (-(2**63), 2**63 - 1),
    "f64": (0.1, -1e300),
}
"""Values at the ends of each numeric type's range."""

Key = tuple[str | bytes, str, object]
"""A name, a type such as ``u32``, ``str`` or ``[[i8]]``, and a value; type ``raw`` takes bytes."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """An entry of the tensor table, as raw as it stands in the file.

    Attributes:
        dims: innermost first.
        qtype: number of the type; 0 is F32.
        data: bytes that the file gets for it.
        offset: place to claim; None for the right one.
    """

    name: str | bytes
    dims: tuple[int, ...] = (4,)
    qtype: int = 0
    data: bytes = bytes(16)
    offset: int | None = None


def text(value: str | bytes, order: str = "<") -> bytes:
    """A string as it stands in a file."""
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack(order + "Q", len(raw)) + raw


def value_bytes(kind: str, value: object, order: str = "<") -> bytes:
    """A value without its type."""
    if kind.startswith("["):
        inner = kind[1:-1]
        items: Sequence[object] = value  # type: ignore[assignment]
        head = type_bytes(inner, order) + struct.pack(order + "Q", len(items))
        return head + b"".join(value_bytes(inner, item, order) for item in items)
    if kind == "str":
        return text(value, order)  # type: ignore[arg-type]
    return struct.pack(order + CODES[kind], value)


def type_bytes(kind: str, order: str = "<") -> bytes:
    """The number of a type."""
    return struct.pack(order + "I", ARRAY if kind.startswith("[") else TYPE_NUMBERS[kind])


def key_bytes(key: Key, order: str = "<") -> bytes:
    """A key with its type and value."""
    name, kind, value = key
    if kind == "raw":
        return text(name, order) + value  # type: ignore[operator]
    return text(name, order) + type_bytes(kind, order) + value_bytes(kind, value, order)


def gguf_bytes(
    keys: Sequence[Key] = (),
    tensors: Sequence[Tensor] = (),
    *,
    order: str = "<",
    version: int = 3,
    alignment: int = 32,
    magic: bytes = b"GGUF",
    n_tensors: int | None = None,
    n_keys: int | None = None,
) -> bytes:
    """A whole file; counts other than the true ones make it lie."""
    table, data = b"", b""
    for tensor in tensors:
        place = len(data) if tensor.offset is None else tensor.offset
        table += text(tensor.name, order)
        table += struct.pack(order + "I", len(tensor.dims))
        table += struct.pack(f"{order}{len(tensor.dims)}Q", *tensor.dims)
        table += struct.pack(order + "IQ", tensor.qtype, place)
        data += tensor.data + bytes(-len(tensor.data) % alignment)
    head = magic + struct.pack(
        order + "IQQ",
        version,
        len(tensors) if n_tensors is None else n_tensors,
        len(keys) if n_keys is None else n_keys,
    )
    head += b"".join(key_bytes(key, order) for key in keys) + table
    return head + (bytes(-len(head) % alignment) + data if tensors else b"")


def all_types_keys() -> list[Key]:
    """A key for every type, for arrays of every type, empty ones, and arrays in arrays."""
    keys: list[Key] = [("general.architecture", "str", "test")]
    for kind, values in EXTREMES.items():
        keys += [(f"{kind}.{index}", kind, value) for index, value in enumerate(values)]
        keys.append((f"{kind}.list", f"[{kind}]", values))
        keys.append((f"{kind}.none", f"[{kind}]", ()))
    keys += [
        ("str.empty", "str", ""),
        ("str.unicode", "str", "naïve 日本 🙂"),
        ("str.list", "[str]", ["", "a", "日本"]),
        ("str.none", "[str]", []),
        ("nested.numbers", "[[i16]]", [[1, -2], [], [3]]),
        ("nested.strings", "[[str]]", [["a"], [], ["b", "c"]]),
        ("nested.deep", "[[[u8]]]", [[[1], []], []]),
    ]
    return keys


QUANTISED = (
    GGMLQuantizationType.F32,
    GGMLQuantizationType.F16,
    GGMLQuantizationType.BF16,
    GGMLQuantizationType.Q4_0,
    GGMLQuantizationType.Q5_1,
    GGMLQuantizationType.Q8_0,
)
"""Types that the `gguf` package can quantise to."""


def write_valid(
    path: Path,
    *,
    big_endian: bool = False,
    alignment: int | None = None,
    types: Sequence[GGMLQuantizationType] = QUANTISED,
    rows: int = 3,
) -> dict[str, np.ndarray]:
    """Write a valid file with the `gguf` package; answers its tensors as float32."""
    endian = GGUFEndian.BIG if big_endian else GGUFEndian.LITTLE
    writer = GGUFWriter(str(path), "test", endianess=endian)
    if alignment is not None:
        writer.add_custom_alignment(alignment)
    writer.add_uint8("n.u8", 255)
    writer.add_int8("n.i8", -128)
    writer.add_uint16("n.u16", 65535)
    writer.add_int16("n.i16", -32768)
    writer.add_uint32("n.u32", 2**32 - 1)
    writer.add_int32("n.i32", -(2**31))
    writer.add_uint64("n.u64", 2**64 - 1)
    writer.add_int64("n.i64", -(2**63))
    writer.add_float32("n.f32", 1.5)
    writer.add_float64("n.f64", 0.1)
    writer.add_bool("b", val=True)
    writer.add_string("s", "naïve 日本 🙂")
    writer.add_array("list.ints", [1, -2, 3])
    writer.add_array("list.floats", [0.5, -0.25])
    writer.add_array("list.strings", ["", "a", "日本"])
    writer.add_key_value("list.bytes", b"\x00\xff", GGUFValueType.ARRAY, GGUFValueType.UINT8)
    rng = np.random.default_rng(7)
    expected: dict[str, np.ndarray] = {}
    for qtype in types:
        name = f"{qtype.name}.weight"
        packed = gguf.quants.quantize(rng.standard_normal((rows, 64), np.float32), qtype)
        expected[name] = gguf.quants.dequantize(packed, qtype)
        if packed.dtype == np.uint8 and big_endian:
            packed = swapped(packed, qtype)
        writer.add_tensor(name, packed, raw_dtype=qtype)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return expected


def swapped(packed: np.ndarray, qtype: GGMLQuantizationType) -> np.ndarray:
    """Packed bytes as a big-endian file has them; the writer swaps float arrays only.

    A block begins with half floats, of which BF16 is one; in Q5_1 a word of fifth bits follows.
    """
    words = {"BF16": ("u2",), "Q4_0": ("u2",), "Q8_0": ("u2",), "Q5_1": ("u2", "u2", "u4")}
    blocks = packed.reshape(-1, gguf.GGML_QUANT_SIZES[qtype][1]).copy()
    at = 0
    for code in words[qtype.name]:
        end = at + np.dtype(code).itemsize
        field = blocks[:, at:end].copy()
        blocks[:, at:end] = field.view(code).byteswap().view(np.uint8)
        at = end
    return blocks.reshape(packed.shape)


def written(folder: Path, content: bytes, name: str = "model.gguf") -> Path:
    """Write a file; answers its path."""
    path = folder / name
    path.write_bytes(content)
    return path


def split_name(stem: str, number: int, count: int) -> str:
    """The name of a part; parts are counted from 1."""
    return f"{stem}-{number:05}-of-{count:05}.gguf"


def split_keys(number: int, count: int, n_tensors: int) -> list[Key]:
    """What a part says of itself; there, parts are counted from 0."""
    return [
        ("split.no", "u16", number - 1),
        ("split.count", "u16", count),
        ("split.tensors.count", "i32", n_tensors),
    ]


def write_split(folder: Path, count: int = 3, stem: str = "model") -> list[Path]:
    """A model with one tensor in each part; its numbers tell the part."""
    paths = []
    for number in range(1, count + 1):
        data = np.full(4, number, np.float32).tobytes()
        keys = split_keys(number, count, count)
        if number == 1:
            keys.append(("general.architecture", "str", "test"))
        path = folder / split_name(stem, number, count)
        path.write_bytes(gguf_bytes(keys, [Tensor(f"blk.{number - 1}.weight", data=data)]))
        paths.append(path)
    return paths
