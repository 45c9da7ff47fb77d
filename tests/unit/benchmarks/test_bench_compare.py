"""The command line of the comparison, and a whole run of it."""

from __future__ import annotations

import sys
from pathlib import Path

import bench_compare
import pytest
from bench_compare import parsed
from compare_report import read_json
from compared_models import NAMES, model_file


def test_without_arguments_all_models_run_in_five_rounds() -> None:
    found = parsed([])
    assert (found.models, found.repeat, found.backend) == (list(NAMES), 5, "auto")


def test_quick_is_one_model_and_one_round() -> None:
    found = parsed(["--quick"])
    assert (found.models, found.repeat) == (["smollm2"], 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--models", "smollm2,smollm3"], "no model 'smollm3'"),
        (["--repeat", "0"], "begin at 1"),
        (["--threads", "0"], "begin at 1"),
    ],
)
def test_what_cannot_be_run_is_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parsed(arguments)
    assert message in capsys.readouterr().err


def test_a_path_stands_for_itself(tmp_path: Path) -> None:
    assert model_file("some/model.gguf", tmp_path) == Path("some/model.gguf")


def test_a_run_prints_its_tables_and_leaves_json_and_chart(
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / "llama_cpp.py").write_text("raise ImportError('left out')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr("compare_rounds.SETTLE_S", 0.0)
    json_path, png_path = tmp_path / "report.json", tmp_path / "chart.png"
    command = ["--models", str(tiny_model), "--quick", "--threads", "1", "--backend", "numpy"]
    files = ["--json", str(json_path), "--png", str(png_path)]
    monkeypatch.setattr(sys, "argv", ["bench_compare.py", *command, *files])
    bench_compare.main()
    assert "llama.cpp was not measured: left out" in capsys.readouterr().out
    assert [model["name"] for model in read_json(json_path)["models"]] == ["q4_k"]
    assert png_path.stat().st_size > 0
