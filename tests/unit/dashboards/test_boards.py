"""The dashboards and rules follow from the table of metrics, and the files from the tables."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest
import yaml

from boards import ALERTS, BOARDS, RECORDINGS, PanelKind
from boards.promql import mean, quantile, rate, selector
from smallmind_exporters.metrics import FAMILIES, PREFIX, MetricKind

FOLDER = Path(__file__).parents[3] / "dashboards"
NAMES = {
    PREFIX + family.name + suffix: family
    for family in FAMILIES
    for suffix in (("_bucket", "_count", "_sum") if family.kind is MetricKind.HISTOGRAM else ("",))
}
RECORDED = {recording.record for recording in RECORDINGS}
PANELS = [
    pytest.param(board, panel, id=f"{board.uid}-{panel.title}")
    for board in BOARDS
    for panel in board.panels
]
EXPRESSIONS = [
    *(query.expr for board in BOARDS for panel in board.panels for query in panel.queries),
    *(recording.expr for recording in RECORDINGS),
    *(alert.expr for alert in ALERTS),
    *(expr for alert in ALERTS for expr in alert.looks_at),
]
# Not drawn, with the reason.
NOT_DRAWN = {
    "machine_byte_ops_per_second": "a ceiling of integer products; floats are drawn",
    "tokenizer_issues_total": "happens once, at load; the degradations show it",
    "model_loads_total": "rare; the time of loads is drawn",
}


def generator():
    spec = importlib.util.spec_from_file_location("dashboards_generate", FOLDER / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_files_on_disk_are_those_the_tables_give(capsys):
    assert generator().main(["--check"]) == 0, capsys.readouterr().err


def test_no_dashboard_on_disk_is_left_over():
    assert {path.stem for path in (FOLDER / "grafana").iterdir()} == {b.uid for b in BOARDS}


def test_a_change_is_written_and_a_stale_file_is_told(tmp_path, monkeypatch, capsys):
    made = generator()
    monkeypatch.setattr(made, "HERE", tmp_path)
    (tmp_path / "grafana").mkdir()
    assert made.main(["--check"]) == 1
    assert "rules.yml is out of date" in capsys.readouterr().err
    assert made.main([]) == 0
    assert made.main(["--check"]) == 0


@pytest.mark.parametrize("expression", sorted(set(EXPRESSIONS)))
def test_expressions_speak_of_metrics_and_labels_that_exist(expression):
    for name, matchers in re.findall(r"(smallmind_[a-z_]+)(?:\{([^}]*)\})?", expression):
        family = NAMES[name]
        known = {label.name for label in family.labels} | {"instance", "le"}
        assert set(re.findall(r"(\w+)(?:=~|!=|=)", matchers)) <= known
    for name in re.findall(r"smallmind:[a-z_:0-9]+", expression):
        assert name in RECORDED


@pytest.mark.parametrize("expression", sorted(set(EXPRESSIONS)))
def test_matchers_of_closed_labels_name_values_that_exist(expression):
    for name, matchers in re.findall(r"(smallmind_[a-z_]+)\{([^}]*)\}", expression):
        for label in NAMES[name].labels:
            for values in re.findall(rf'\b{label.name}(?:=~|!=|=)"([^"]*)"', matchers):
                if label.values and not values.startswith("$"):
                    assert set(values.split("|")) <= {str(value) for value in label.values}


def test_every_metric_is_on_a_dashboard():
    drawn = " ".join(EXPRESSIONS)
    missing = {
        family.name
        for family in FAMILIES
        if not re.search(rf"\b{PREFIX}{family.name}(_bucket|_count|_sum)?\b", drawn)
    }
    assert missing == set(NOT_DRAWN)


@pytest.mark.parametrize(("board", "panel"), PANELS)
def test_panels_say_what_they_answer_and_fit_the_grid(board, panel):
    assert panel.asks.endswith((".", "?"))
    assert 1 <= panel.width <= 24
    assert len(panel.queries) == 1 or all(query.legend for query in panel.queries)


def test_titles_are_unique_on_their_board():
    for board in BOARDS:
        titles = [panel.title for panel in board.panels]
        assert len(set(titles)) == len(titles)


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.uid)
def test_a_rendered_board_has_what_grafana_needs(board):
    made = json.loads((FOLDER / "grafana" / f"{board.uid}.json").read_text(encoding="utf-8"))
    panels = [panel for panel in made["panels"] if panel["type"] != "row"]
    assert [panel["title"] for panel in panels] == [panel.title for panel in board.panels]
    assert len({panel["id"] for panel in made["panels"]}) == len(made["panels"])
    assert made["uid"] == board.uid
    names = [variable["name"] for variable in made["templating"]["list"]]
    assert names == ["datasource", "model", "instance"]
    for shown, panel in zip(panels, board.panels, strict=True):
        assert [t["expr"] for t in shown["targets"]] == [q.expr for q in panel.queries]
        assert shown["gridPos"]["x"] + shown["gridPos"]["w"] <= 24
        assert (shown["type"] == "table") == (panel.kind is PanelKind.TABLE)


def test_no_two_panels_of_a_board_overlap():
    for board in BOARDS:
        made = json.loads((FOLDER / "grafana" / f"{board.uid}.json").read_text(encoding="utf-8"))
        taken = set()
        for panel in made["panels"]:
            at = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(at["x"], at["x"] + at["w"])
                for y in range(at["y"], at["y"] + at["h"])
            }
            assert not taken & cells, (board.uid, panel["title"])
            taken |= cells


def test_exemplars_are_marked_where_the_metric_has_them():
    with_exemplars = {family.name for family in FAMILIES if family.exemplars}
    marked = {
        NAMES[re.search(r"smallmind_\w+", query.expr)[0]].name
        for board in BOARDS
        for panel in board.panels
        for query in panel.queries
        if query.exemplars
    }
    assert marked == with_exemplars


def test_a_wrong_name_label_or_kind_fails_when_it_is_generated():
    with pytest.raises(KeyError):
        selector("no_such_metric")
    with pytest.raises(ValueError, match="no label colour"):
        rate("requests_total", ("colour",))
    with pytest.raises(ValueError, match="only histograms"):
        quantile(0.5, "requests_total")
    assert mean("queue_seconds").count("smallmind_queue_seconds") == 2


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_alerts_lead_to_a_board_and_say_what_to_do(alert):
    assert alert.board in {board.uid for board in BOARDS}
    assert alert.summary.endswith(".")
    assert alert.remedy.endswith(".")
    assert alert.looks_at


PROVISIONED = sorted(path for path in FOLDER.rglob("*.y*ml") if path.name != "rules.yml")


@pytest.mark.parametrize("path", PROVISIONED, ids=lambda path: path.name)
def test_provisioning_files_are_yaml(path):
    assert yaml.safe_load(path.read_text(encoding="utf-8"))


def test_the_compose_file_mounts_what_exists():
    compose = yaml.safe_load((FOLDER / "compose.yml").read_text(encoding="utf-8"))
    mounted = [
        volume.split(":")[0]
        for service in compose["services"].values()
        for volume in service.get("volumes", ())
        if volume.startswith("./")
    ]
    assert mounted
    assert [path for path in mounted if not (FOLDER / path).exists()] == []


def test_exemplars_lead_to_the_provisioned_store_of_traces():
    path = FOLDER / "provisioning" / "datasources" / "smallmind.yml"
    sources = yaml.safe_load(path.read_text(encoding="utf-8"))["datasources"]
    prometheus = next(source for source in sources if source["type"] == "prometheus")
    (link,) = prometheus["jsonData"]["exemplarTraceIdDestinations"]
    assert link["name"] == "trace_id"
    assert link["datasourceUid"] in {source["uid"] for source in sources}
