"""The tokenizers of both real models against what llama.cpp says."""

from __future__ import annotations

from pathlib import Path

import pytest

from smallmind_engine.tokenizers import StreamingDetokenizer, Tokenizer, TokenizerFactory
from tokenizer_models import golden_cases, tokenizer_metadata

pytestmark = pytest.mark.model


@pytest.fixture(scope="module", params=["smollm2", "gemma3"])
def model(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def tokenizer(model: str, request: pytest.FixtureRequest) -> Tokenizer:
    path: Path = request.getfixturevalue(f"{model}_path")
    return TokenizerFactory.create(tokenizer_metadata(path), strict=True)


def test_every_golden_text_has_the_ids_of_the_reference(tokenizer: Tokenizer, model: str) -> None:
    cases = golden_cases(model)
    expected = [case["ids"] for case in cases]

    actual = [
        tokenizer.encode(case["text"], add_special=False, parse_special=case["parse_special"])
        for case in cases
    ]

    assert expected == actual
    assert len(cases) >= 50


def test_golden_ids_decode_to_the_text_of_the_reference(tokenizer: Tokenizer, model: str) -> None:
    cases = golden_cases(model)

    assert [case["detokenized"] for case in cases] == [
        tokenizer.decode(case["ids"]) for case in cases
    ]


def test_golden_ids_stream_to_the_text_of_the_reference(tokenizer: Tokenizer, model: str) -> None:
    for case in golden_cases(model):
        stream = StreamingDetokenizer(tokenizer, skip_special=False)

        text = "".join(map(stream.push, case["ids"])) + stream.flush()

        assert case["detokenized"] == text


def test_real_files_need_no_fallback(tokenizer: Tokenizer) -> None:
    assert not tokenizer.diagnostics.has_issues


@pytest.mark.parametrize(
    ("name", "kind", "size", "bos", "eos", "eog", "add_bos"),
    [
        ("smollm2", "bpe", 49_152, 1, 2, {0, 2, 4}, False),
        ("gemma3", "token_table", 262_144, 2, 1, {1, 106}, True),
    ],
)
def test_special_ids_are_those_of_the_file(
    request: pytest.FixtureRequest, name, kind, size, bos, eos, eog, add_bos
) -> None:
    path = request.getfixturevalue(f"{name}_path")
    built = TokenizerFactory.create(tokenizer_metadata(path))

    assert (kind, size, bos, eos) == (built.kind, built.vocab_size, built.bos_id, built.eos_id)
    assert (eog, add_bos) == (built.eog_ids, built.add_bos)
    assert ([bos] if add_bos else []) == built.encode("")
