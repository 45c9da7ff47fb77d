"""The report as text, as JSON, and as a picture."""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path

import compare_report
import pytest
from compare_cases import QUICK_CASES
from compare_chart import caption, write_chart
from compare_report import new_report, read_json, write_json
from compare_rounds import Settings
from compare_table import as_text, print_report

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def test_the_text_has_speeds_ratios_and_shares(report: dict) -> None:
    lines = as_text(report).splitlines()
    prefill = next(line for line in lines if line.startswith("128 tokens"))
    for cell in ("64.0 [32.0..128.0]", "2.00 [2.00..4.00]", "0.1", "13%", "6%"):
        assert cell in prefill
    assert "smallmind: 16 sequences ÷ one: 8.00 [8.00..8.00]" in lines
    assert "limit: 8-bit products not measured: numba is not installed" in lines
    assert "leading greedy tokens alike: 1x128 2 of 3, 1x421 2 of 3, 16x128 2 of 3" in lines


def test_memory_is_told_beside_the_size_of_the_file(report: dict) -> None:
    line = next(each for each in as_text(report).splitlines() if "peak RSS, loaded" in each)
    assert line.split()[3:] == ["200", "MB", "200", "MB", "1.00", "2.00", "2.00"]


def test_the_text_says_when_llama_cpp_was_not_measured(report_alone: dict) -> None:
    assert "llama.cpp was not measured: No module named 'llama_cpp'" in as_text(report_alone)


def test_rich_shows_every_cell_in_full_on_a_narrow_terminal(
    report: dict, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("rich")
    monkeypatch.setenv("COLUMNS", "40")
    print_report(report)
    printed = capsys.readouterr().out
    assert "…" not in printed
    assert "16 sequences, context 128" in printed


def test_without_rich_the_plain_text_is_printed(
    report: dict, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "rich.console", None)
    print_report(report)
    assert capsys.readouterr().out == as_text(report) + "\n"


def test_a_report_is_read_as_it_was_written(report: dict, tmp_path: Path) -> None:
    write_json(report, tmp_path / "new" / "report.json")
    assert read_json(tmp_path / "new" / "report.json") == report


def test_a_report_of_another_format_is_refused(report: dict, tmp_path: Path) -> None:
    write_json(report | {"format": 0}, tmp_path / "report.json")
    with pytest.raises(SystemExit, match="format 0"):
        read_json(tmp_path / "report.json")


def test_a_new_report_describes_the_machine_and_names_no_folder() -> None:
    settings = Settings(threads=2, repeat=1, backend="numpy", quick=True, cases=QUICK_CASES)
    made = json.loads(json.dumps(new_report(settings, [])))
    assert made["machine"]["cpu"]
    assert made["machine"]["packages"]["numpy"]
    assert list(made["settings"]["cases"]) == [case.name for case in QUICK_CASES]
    assert str(Path.home()) not in json.dumps(made)


@pytest.mark.parametrize("name", ["report", "report_alone"])
def test_the_chart_is_a_readable_png(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "charts" / "chart.png"
    write_chart(request.getfixturevalue(name), path)
    content = path.read_bytes()
    assert content.startswith(PNG_SIGNATURE)
    width, height = struct.unpack(">II", content[16:24])
    assert width > height > 300


def test_the_caption_tells_date_machine_and_versions(report: dict) -> None:
    text = caption(report)
    for part in ("2030-01-02", "Abacus 9", "2 threads", "smallmind 1.0", "3 round"):
        assert part in text
    assert "None" not in text


def test_the_command_prints_the_tables_and_draws_the_chart(
    report: dict,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("matplotlib")
    json_path, png_path = tmp_path / "report.json", tmp_path / "chart.png"
    write_json(report, json_path)
    monkeypatch.setattr(
        sys, "argv", ["compare_report.py", "--json", str(json_path), "--png", str(png_path)]
    )
    compare_report.main()
    assert "Abacus 9" in capsys.readouterr().out
    assert png_path.read_bytes().startswith(PNG_SIGNATURE)
