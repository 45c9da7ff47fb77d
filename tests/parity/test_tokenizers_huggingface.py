"""The tokenizers against Hugging Face's, built from the same vocabularies."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as HfTokenizer

from smallmind_engine.tokenizers import TokenizerFactory
from smallmind_engine.tokenizers.byte_level import BYTE_TO_CHAR
from smallmind_engine.tokenizers.pretokenizers import PRE_TOKENIZERS, PreTokenizer
from tokenizer_models import USER_DEFINED, generated_texts, tokenizer_metadata

TEXTS = 20_000


def _hf_byte_level(metadata: dict[str, object]) -> HfTokenizer:
    vocabulary = {token: i for i, token in enumerate(metadata["tokenizer.ggml.tokens"])}
    merges = [tuple(merge.split(" ")) for merge in metadata["tokenizer.ggml.merges"]]
    oracle = HfTokenizer(models.BPE(vocab=vocabulary, merges=merges))
    oracle.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    oracle.decoder = decoders.ByteLevel()
    return oracle


def _hf_by_scores(metadata: dict[str, object]) -> HfTokenizer:
    """SentencePiece merging as merge rules: every split of every token, best score first."""
    tokens = metadata["tokenizer.ggml.tokens"]
    scores = metadata["tokenizer.ggml.scores"].tolist()
    vocabulary = {token: i for i, token in enumerate(tokens)}
    merges = []
    for token_id in sorted(range(len(tokens)), key=lambda i: -scores[i]):
        token = tokens[token_id]
        for cut in range(1, len(token)):
            left, right = token[:cut], token[cut:]
            if left in vocabulary and right in vocabulary:
                merges.append((left, right))
    unknown = {"unk_token": tokens[metadata["tokenizer.ggml.unknown_token_id"]], "fuse_unk": True}
    model = models.BPE(vocab=vocabulary, merges=merges, byte_fallback=True, **unknown)
    oracle = HfTokenizer(model)
    oracle.normalizer = normalizers.Replace(" ", "▁")
    types = metadata["tokenizer.ggml.token_type"].tolist()
    oracle.add_tokens(
        [
            AddedToken(token, normalized=False)
            for token, kind in zip(tokens, types, strict=True)
            if kind == USER_DEFINED
        ]
    )
    return oracle


def _without_missing_bytes(texts: list[str], metadata: dict[str, object]) -> list[str]:
    """Texts less the characters that need one of SmolLM2's 21 missing bytes.

    Both leave these characters out, but Hugging Face does so before merging, so that their
    neighbours merge; llama.cpp, which is followed here, does so after.
    """
    known = set(metadata["tokenizer.ggml.tokens"])
    lost = {byte for byte, char in enumerate(BYTE_TO_CHAR) if char not in known}
    return ["".join(c for c in text if lost.isdisjoint(c.encode())) for text in texts]


def _differences(texts: list[str], expected: list[list[int]], actual: list[list[int]]) -> list[str]:
    return [t for t, e, a in zip(texts, expected, actual, strict=True) if e != a]


@pytest.mark.model
def test_smollm2_agrees_with_huggingface_on_generated_texts(smollm2_path: Path) -> None:
    metadata = tokenizer_metadata(smollm2_path)
    tokenizer = TokenizerFactory.create(metadata)
    texts = _without_missing_bytes(generated_texts(1, TEXTS), metadata)
    expected = [
        found.ids
        for found in _hf_byte_level(metadata).encode_batch(texts, add_special_tokens=False)
    ]

    actual = [tokenizer.encode(text, add_special=False) for text in texts]

    assert _differences(texts, expected, actual)[:5] == []


@pytest.mark.model
def test_smollm2_decodes_as_huggingface(smollm2_path: Path) -> None:
    metadata = tokenizer_metadata(smollm2_path)
    tokenizer = TokenizerFactory.create(metadata)
    oracle = _hf_byte_level(metadata)
    ids = [tokenizer.encode(text, add_special=False) for text in generated_texts(2, 3_000)]

    assert oracle.decode_batch(ids, skip_special_tokens=False) == [
        tokenizer.decode(each) for each in ids
    ]


@pytest.mark.model
def test_gemma3_agrees_with_huggingface_on_generated_texts(gemma3_path: Path) -> None:
    metadata = tokenizer_metadata(gemma3_path)
    tokenizer = TokenizerFactory.create(metadata)
    texts = generated_texts(3, TEXTS)
    expected = [
        found.ids for found in _hf_by_scores(metadata).encode_batch(texts, add_special_tokens=False)
    ]

    actual = [tokenizer.encode(text, add_special=False) for text in texts]

    assert _differences(texts, expected, actual)[:5] == []


@pytest.mark.model
@pytest.mark.parametrize("seed", [4, 5])
def test_gemma3_gives_back_every_text_it_encodes(gemma3_path: Path, seed: int) -> None:
    tokenizer = TokenizerFactory.create(tokenizer_metadata(gemma3_path))
    texts = [text.replace("▁", "") for text in generated_texts(seed, 2_000)]

    assert texts == [tokenizer.decode(tokenizer.encode(t, add_special=False)) for t in texts]


# The patterns as the models' own tokenizer.json files have them.
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_PATTERNS = {
    "gpt-2": [r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"],
    "llama-bpe": [_LLAMA3],
    "qwen2": [_LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")],
    # llama.cpp takes blanks such as U+3000 out of the range of scripts; so does this oracle.
    "deepseek-coder": [
        r"[\r\n]",
        r"\s?\p{L}+",
        r"\s?\p{P}+",
        r"[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff&&[^\s]]+",
        r"\p{N}",
    ],
    "seed-coder": [
        (
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}"
            r"| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+"
        )
    ],
    "qwen35": [
        (
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}"
            r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        )
    ],
    "bloom": [r" ?[^(\s|.,!?…。，、।۔،)]+"],  # noqa: RUF001
    "deepseek-v3": [
        r"\p{N}{1,3}",
        r"[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
        (
            r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
            r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        ),
    ],
}


@pytest.mark.parametrize("name", _PATTERNS)
def test_words_are_cut_as_by_huggingface(name: str) -> None:
    splits = [
        pre_tokenizers.Split(Regex(pattern), behavior="isolated") for pattern in _PATTERNS[name]
    ]
    oracle = pre_tokenizers.Sequence(splits)
    mine = PreTokenizer(PRE_TOKENIZERS[name].stages)

    for text in generated_texts(6, 3_000):
        expected = [piece for piece, _ in oracle.pre_tokenize_str(text) if piece]
        assert expected == list(mine.split(text))
