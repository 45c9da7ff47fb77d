"""``smallmind inspect``."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from gguf import GGUFReader, GGUFWriter

import smallmind
from smallmind._cli import inspection
from smallmind._cli.inspection import quantisation_mix
from smallmind._cli.inspection_views import tokenizer_grid, value_text
from smallmind._cli.rendering import plain_grid
from smallmind_engine.gguf import QuantType, TensorInfo
from smallmind_engine.telemetry.errors import TokenizerError
from smallmind_engine.telemetry.reasons import ReasonCode
from tiny_models import TinyModel, write_tiny_model


@pytest.fixture
def document(cli) -> dict:
    return json.loads(cli("inspect", "MODEL", "--json").stdout)


def test_the_tensors_are_those_that_another_reader_finds(document, tiny_path):
    reader = GGUFReader(tiny_path)
    assert [
        (tensor["name"], tensor["shape"], tensor["type"], tensor["bytes"])
        for tensor in document["tensors"]
    ] == [
        (t.name, [int(n) for n in reversed(t.shape)], t.tensor_type.name, int(t.n_bytes))
        for t in reader.tensors
    ]


def test_the_metadata_are_those_that_another_reader_finds(document, tiny_path):
    fields = GGUFReader(tiny_path).fields
    keys = [name for name in fields if not name.startswith("GGUF.")]
    assert list(document["metadata"]) == keys
    assert document["metadata"]["llama.block_count"] == fields["llama.block_count"].contents()
    tokens = document["metadata"]["tokenizer.ggml.tokens"]
    assert tokens["length"] == len(fields["tokenizer.ggml.tokens"].contents())
    assert tokens["first"] == fields["tokenizer.ggml.tokens"].contents()[:6]


def test_full_gives_arrays_whole(cli, tiny_path):
    full = json.loads(cli("inspect", "MODEL", "--json", "--full").stdout)
    tokens = GGUFReader(tiny_path).fields["tokenizer.ggml.tokens"].contents()
    assert full["metadata"]["tokenizer.ggml.tokens"] == tokens


def test_the_memory_estimate_is_what_loading_takes(document, tiny_path):
    with smallmind.load(tiny_path, exporters=()) as engine:
        engine.chat().send("x", max_tokens=1)
        by_category = {usage.category.value: usage.high_water_bytes for usage in engine.memory}
        tokens = engine._core.kv_store.bytes_per_token
    memory = document["memory"]
    assert memory["resident_bytes"] == by_category["weights"]
    assert memory["kv_bytes_per_token"] == tokens
    assert memory["kv_bytes_full_context"] == tokens * memory["context_length"]
    assert memory["per_layer_bytes"] < memory["resident_bytes"]


def test_the_mix_adds_up_to_the_file(document):
    mix, tensors = document["quantisation"], document["tensors"]
    assert sum(each["tensors"] for each in mix) == len(tensors)
    assert sum(each["n_bytes"] for each in mix) == sum(each["bytes"] for each in tensors)
    assert sum(each["share"] for each in mix) == pytest.approx(1.0)
    assert sum(each["elements"] for each in mix) == document["parameters"]


def test_the_largest_share_comes_first():
    tensors = (
        TensorInfo("a", (32,), QuantType.F32, 0, 128),
        TensorInfo("b", (64, 32), QuantType.Q8_0, 128, 2176),
    )
    shares = quantisation_mix(tensors)
    assert [share.qtype for share in shares] == ["Q8_0", "F32"]
    assert shares[0].share == pytest.approx(2176 / 2304)


def test_the_tokenizer_is_diagnosed(document):
    assert document["tokenizer"]["kind"] == "bpe"
    assert document["tokenizer"]["issues"] == []


def test_people_get_it_as_plain_text(cli):
    ran = cli("inspect", "MODEL")
    assert ran.exit_code == 0
    for word in ("GGUF 3", "Metadata", "Tensors", "Quantisation", "Tokenizer", "KV cache, one"):
        assert word in ran.stdout
    assert "… 266 in all]" in ran.stdout
    assert "\x1b" not in ran.stdout
    assert ran.stderr == ""


def test_a_model_that_does_not_run_here_is_shown_all_the_same(cli, tmp_path):
    path = tmp_path / "alien.gguf"
    writer = GGUFWriter(str(path), "alien")
    writer.add_tensor("x", np.zeros((2, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    ran = cli("inspect", str(path), "--json")
    assert ran.exit_code == 0
    document = json.loads(ran.stdout)
    assert document["runs_here"] is False
    assert document["memory"] is None
    assert document["problems"][0]["reason"] == "MODEL_ARCHITECTURE_UNSUPPORTED"
    assert len(document["tensors"]) == 1
    shown = cli("inspect", str(path)).stdout
    assert "does not run here" in shown
    assert "TOKENIZER_GGUF_METADATA_MISSING" in shown


def test_tokenizer_issues_are_shown(cli, tmp_path):
    path = write_tiny_model(tmp_path / "x.gguf", TinyModel("llama"))
    data = path.read_bytes()
    path.write_bytes(data.replace(b"tokenizer.ggml.merges", b"tokenizer.ggml.mergez"))
    assert "TOKENIZER_MERGES_MISSING" in cli("inspect", str(path)).stdout


def test_a_tokenizer_that_cannot_be_built_is_a_problem_of_the_model(cli, monkeypatch):
    def refuse(*_, **__):
        raise TokenizerError(ReasonCode.TOKENIZER_UNSUPPORTED, "of an unknown kind")

    monkeypatch.setattr(inspection.TokenizerFactory, "create", refuse)
    document = json.loads(cli("inspect", "MODEL", "--json").stdout)
    assert document["tokenizer"] is None
    assert [problem["reason"] for problem in document["problems"]] == ["TOKENIZER_UNSUPPORTED"]
    assert "Tokenizer\n" not in cli("inspect", "MODEL").stdout


def test_bytes_that_no_token_stands_for_are_counted(tiny_path):
    with smallmind.load(tiny_path, exporters=()) as engine:
        diagnostics = engine.model.tokenizer.diagnostics
    shown = plain_grid(tokenizer_grid(dataclasses.replace(diagnostics, missing_bytes=21)))
    assert "bytes without a token  21 of 256" in shown


@pytest.mark.parametrize(
    ("value", "full", "text"),
    [
        ("a\nb", False, "a\\nb"),
        ("x" * 200, False, "x" * 159 + "…"),
        ("x" * 200, True, "x" * 200),
        (True, False, "True"),
        (np.arange(3), False, "[0, 1, 2]"),
        (np.arange(20), False, "[0, 1, 2, 3, 4, 5, … 20 in all]"),
        (["a", "b"], False, "['a', 'b']"),
    ],
)
def test_metadata_values_are_one_line_of_bounded_length(value, full, text):
    assert value_text(value, full=full) == text


def test_a_damaged_file_is_told(cli, tmp_path, tiny_path):
    path = tmp_path / "cut.gguf"
    path.write_bytes(tiny_path.read_bytes()[:-100])
    ran = cli("inspect", str(path))
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert "[GGUF_TENSOR_OUT_OF_FILE]" in ran.stderr
