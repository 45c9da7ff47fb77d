"""Builders for tokenizer tests: tiny vocabularies, texts, real metadata and golden cases."""

from __future__ import annotations

import json
import os
import random
import struct
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from smallmind_engine.tokenizers.byte_level import BYTE_TO_CHAR
from smallmind_engine.tokenizers.vocabulary import byte_name

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)

REPOSITORY = Path(__file__).resolve().parents[1]

TINY_MERGES = ["h e", "l l", "he ll", "hell o", "Ġ w", "o r", "Ġw or", "l d", "a a", "aa aa"]


def bpe_metadata(**changes: object) -> dict[str, object]:
    """A byte-level BPE model: 256 bytes, ten merges, two control and one user-defined token.

    ``changes`` replace keys of ``tokenizer.ggml.``; None takes a key away.
    """
    tokens = [*BYTE_TO_CHAR, *(merge.replace(" ", "") for merge in TINY_MERGES)]
    types = [NORMAL] * len(tokens)
    tokens += ["<|endoftext|>", "<|im_end|>", "<tool>"]
    types += [CONTROL, CONTROL, USER_DEFINED]
    fields = {
        "model": "gpt2",
        "pre": "gpt-2",
        "tokens": tokens,
        "token_type": np.array(types, np.int32),
        "merges": list(TINY_MERGES),
        "bos_token_id": 266,
        "eos_token_id": 267,
    }
    return _prefixed(fields, changes)


def spm_metadata(**changes: object) -> dict[str, object]:
    """A SentencePiece model: control tokens, bytes, letters and a few scored pieces."""
    tokens = ["<unk>", "<s>", "</s>", *map(byte_name, range(256))]
    types = [UNKNOWN, CONTROL, CONTROL, *[BYTE] * 256]
    scores = [0.0] * len(tokens)
    pieces = ["▁", *"abcdehlorw", "ll", "▁w", "or", "▁h", "▁he", "llo", "▁hello", "▁wor", "ld"]
    pieces += ["▁▁", "▁▁▁▁", "aa", "aaaa", "bc", "ab"]
    tokens += pieces
    types += [NORMAL] * len(pieces)
    scores += [-float(place) for place in range(len(pieces))]
    tokens += ["<tool>", "<tool>x"]
    types += [USER_DEFINED, USER_DEFINED]
    scores += [0.0, 0.0]
    fields = {
        "model": "llama",
        "pre": "default",
        "tokens": tokens,
        "token_type": np.array(types, np.int32),
        "scores": np.array(scores, np.float32),
        "bos_token_id": 1,
        "eos_token_id": 2,
        "unknown_token_id": 0,
    }
    return _prefixed(fields, changes)


def unigram_metadata(**changes: object) -> dict[str, object]:
    """A unigram model over a few pieces, as T5 files have it."""
    pieces = {"▁": -2.0, "a": -3.0, "b": -3.1, "c": -3.2, "ab": -4.0, "bc": -3.5, "▁a": -3.9}
    pieces |= {"abc": -6.0, "▁abc": -9.0}
    tokens = ["<pad>", "</s>", "<unk>", *pieces]
    fields = {
        "model": "t5",
        "tokens": tokens,
        "token_type": [CONTROL, CONTROL, UNKNOWN, *[NORMAL] * len(pieces)],
        "scores": [0.0, 0.0, 0.0, *pieces.values()],
        "eos_token_id": 1,
        "unknown_token_id": 2,
        "padding_token_id": 0,
        "add_space_prefix": True,
        "remove_extra_whitespaces": True,
    }
    return _prefixed(fields, changes)


def _prefixed(fields: dict[str, object], changes: dict[str, object]) -> dict[str, object]:
    merged = {**fields, **changes}
    return {f"tokenizer.ggml.{key}": v for key, v in merged.items() if v is not None}


_ALPHABETS = (
    "abcdefghijklmnopqrstuvwxyz",
    "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "éèüñçøßÀÖŠžğİı",
    "абвгдежзийклмнопрстуфхцчшщъыьэюяЁЖ",
    "αβγδεζηθικλμνξοπρστυφχψωΆΏ",
    "ابتثجحخدذرزسشصضطظعغفقكلمنهوي",
    "אבגדהוזחטיכלמנסעפצקרשת",
    "अआइईउऊकखगघचछजझटठडढ\u093e\u093f\u0940\u094d",
    "กขคงจฉชซ\u0e31\u0e34\u0e35\u0e49",
    "日本語中文字符測試你好世界",
    "ひらがなカタカナー",
    "한국어말뭉치가나다",
    "0123456789",
    "٠١٢٣४५६²³½Ⅷ①",
    " ",
    " \t\n\r\x0b\x0c",
    "\u00a0\u2003\u2028\u2029\u3000\u200b\u200d\ufeff",
    "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~",
    "“”‘’—–…«»¿¡、。！？",  # noqa: RUF001 - punctuation beyond ASCII is the point
    "€£¥©®™±×÷√∞≈",  # noqa: RUF001
    "🙂😀👩👨👧🏳🌈🚀\u200d\ufe0f🏽",
    "\u0300\u0301\u0308\u0327\u20dd",
    "\x00\x01\x04\x06\x07\x13\x1b\x1d\x1f\x7f\x85",
)
_SNIPPETS = (
    "def f(a: int) -> str:\n    return str(a)\n",
    "for (int i = 0; i < n; ++i) { sum += a[i]; }",
    "<div class='x'>text</div></s><s>",
    "don't you'll I'VE they're WE'D it's o'clock",
    "3.14159 1,000,000 0x7fff 1e-9 2024-01-31T23:59:59Z",
    "The quick brown fox jumps over the lazy dog.",
    "https://example.org/a?b=c&d=%20#frag",
    "<|im_start|>user\nhi<|im_end|>\n",
    "\n\n\n",
    "        ",
    "\t\t",
    "<0x0A>▁<eos>",
)


def generated_texts(seed: int, count: int) -> list[str]:
    """Texts that mix scripts, digits, blanks, emoji, code, control characters and random bytes."""
    rng = random.Random(seed)  # noqa: S311 - test data
    return [_generated_text(rng) for _ in range(count)]


def _generated_text(rng: random.Random) -> str:
    parts = []
    for _ in range(rng.randint(1, 7)):
        kind = rng.random()
        if kind < 0.15:
            parts.append(rng.choice(_SNIPPETS))
        elif kind < 0.22:
            parts.append(rng.randbytes(rng.randint(1, 12)).decode("utf-8", "replace"))
        elif kind < 0.27:
            parts.append(rng.randbytes(rng.randint(1, 12)).decode("latin-1"))
        elif kind < 0.37:
            parts.append(rng.choice(rng.choice(_ALPHABETS)) * rng.randint(1, 40))
        elif kind < 0.6:
            parts.append(" " + "".join(rng.choices(_ALPHABETS[0], k=rng.randint(1, 12))))
        else:
            parts.append("".join(rng.choices(rng.choice(_ALPHABETS), k=rng.randint(1, 10))))
    return "".join(parts)


def golden_cases(model: str) -> list[dict[str, object]]:
    """The section ``tokenize`` of a golden file; skips the test when the folder is not there."""
    folder = Path(os.environ.get("SMALLMIND_GOLDEN_DIR", REPOSITORY.parent / "shared" / "golden"))
    path = folder / f"{model}.json"
    if not path.is_file():
        pytest.skip(f"no golden file {path}; SMALLMIND_GOLDEN_DIR names the folder")
    cases: list[dict[str, object]] = json.loads(path.read_text("utf-8"))["tokenize"]
    return cases


@cache
def tokenizer_metadata(path: Path) -> dict[str, object]:
    """The tokenizer's keys of a little-endian GGUF file, read without the engine's own reader."""
    with path.open("rb") as file:
        data = file.read(64 << 20)
    _, _, _, count = struct.unpack_from("<4sIQQ", data)
    found: dict[str, object] = {}
    place = 24
    for _ in range(count):
        key, place = _string(data, place)
        (kind,) = struct.unpack_from("<I", data, place)
        value, place = _value(data, place + 4, kind)
        if key.startswith(("tokenizer.", "general.")):
            found[key] = value
    return found


_SCALARS = dict(enumerate(("B", "b", "H", "h", "I", "i", "f", "?"))) | {10: "Q", 11: "q", 12: "d"}


def _value(data: bytes, place: int, kind: int) -> tuple[object, int]:
    if kind == 8:
        return _string(data, place)
    if kind == 9:
        inner, size = struct.unpack_from("<IQ", data, place)
        place += 12
        if inner != 8:
            dtype = np.dtype("<" + _SCALARS[inner])
            array = np.frombuffer(data, dtype, size, place)
            return array, place + array.nbytes
        strings = []
        for _ in range(size):
            string, place = _string(data, place)
            strings.append(string)
        return strings, place
    form = "<" + _SCALARS[kind]
    return struct.unpack_from(form, data, place)[0], place + struct.calcsize(form)


def _string(data: bytes, place: int) -> tuple[str, int]:
    (size,) = struct.unpack_from("<Q", data, place)
    end = place + 8 + size
    return data[place + 8 : end].decode("utf-8", "surrogateescape"), end
