"""``smallmind replay``, ``report`` and ``top``, over logs of a tiny model."""

from __future__ import annotations

import io
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from rich.console import Console

import smallmind
from event_logs import everything, write_log
from smallmind._cli.commands import top as command
from smallmind._cli.scraping import Scraper
from smallmind._cli.screen import Screen
from smallmind_engine.telemetry.errors import ConfigError, ExporterError
from smallmind_exporters.jsonl import JsonLinesExporter
from smallmind_exporters.prometheus import PrometheusExporter
from telemetry_events import headers, request

ASK = {"max_tokens": 5, "ignore_eos": True}


@pytest.fixture(scope="session")
def recorded(tiny_path, tmp_path_factory) -> Path:
    """A log of a tiny model with the flight recorder on."""
    path = tmp_path_factory.mktemp("logs") / "events.jsonl"
    with (
        JsonLinesExporter(path, record_requests=True) as log,
        smallmind.load(tiny_path, exporters=[log], backend="numpy", capture_content=True) as engine,
    ):
        engine.generate("ab", temperature=0.0, **ASK)
        engine.generate("ba", request_id="mine", **ASK)
        engine.flush()
    return path


def test_replay_tells_what_the_log_holds(cli, recorded):
    ran = cli("replay", str(recorded))
    assert (ran.exit_code, ran.stderr) == (0, "")
    for word in ("complete", "yes", "MAX_TOKENS", "time to first token", "completion tokens"):
        assert word in ran.stdout, word


def test_replay_as_json_is_one_document(cli, recorded):
    told = json.loads(cli("replay", str(recorded), "--json").stdout)
    assert told["complete"] is True
    assert told["metrics"]["completion_tokens"] == 10
    assert told["metrics"]["request_duration"]["count"] == 2
    assert told["header"]["part"] == 1


def test_replay_prints_the_page_of_prometheus(cli, recorded):
    ran = cli("replay", str(recorded), "--exporter", "prometheus")
    assert ran.exit_code == 0
    assert 'smallmind_generated_tokens_total{model="tiny"} 10.0' in ran.stdout
    assert ran.stderr.endswith("events replayed into 'prometheus'\n")
    exemplars = cli("replay", str(recorded), "--exporter", "prometheus", "--openmetrics").stdout
    assert "trace_id=" in exemplars
    assert exemplars.endswith("# EOF\n")


def test_replay_makes_a_trace_of_a_log(cli, recorded, tmp_path, monkeypatch):
    monkeypatch.setenv("SMALLMIND_CHROME_TRACE_PATH", str(tmp_path / "trace.json"))
    ran = cli("replay", str(recorded), "--exporter", "chrome_trace")
    assert ran.exit_code == 0
    trace = json.loads((tmp_path / "trace.json").read_text())
    assert {"B", "E", "i", "C"} <= {record["ph"] for record in trace}


def test_an_incomplete_log_is_told(cli, recorded, tmp_path):
    torn = tmp_path / "torn.jsonl"
    torn.write_bytes(recorded.read_bytes()[:-60] + b"\nnonsense\n")
    ran = cli("replay", str(torn))
    assert "no: 2 lines are damaged" in ran.stdout
    assert "the log is not complete" in cli("replay", str(torn), "--exporter", "memory").stderr


def test_verify_says_that_the_tokens_are_the_same(cli, recorded):
    ran = cli("replay", str(recorded), "--verify", "MODEL")
    assert ran.exit_code == 0
    assert ran.stdout.endswith("2 recorded requests: 2 same\n")


def test_verify_one_request_as_json(cli, recorded):
    ran = cli("replay", str(recorded), "--verify", "MODEL", "--request", "mine", "--json")
    (found,) = json.loads(ran.stdout)["requests"]
    assert (found["request_id"], found["outcome"], found["tokens"]) == ("mine", "same", 5)


def test_verify_exits_with_1_at_the_first_token_that_differs(cli, recorded, tmp_path):
    changed = tmp_path / "changed.jsonl"
    lines = recorded.read_text().splitlines()
    for place, line in enumerate(lines):
        document = json.loads(line)
        if document.get("event") == "TokenGenerated" and document["data"]["index"] == 3:
            document["data"]["token_id"] = 1
            lines[place] = json.dumps(document)
    changed.write_text("\n".join(lines) + "\n")
    ran = cli("replay", str(changed), "--verify", "MODEL")
    assert ran.exit_code == 1
    assert "step 3: token 1" in ran.stdout
    assert "2 diverged" in ran.stdout


def test_verify_needs_recorded_requests(cli, tmp_path):
    write_log(tmp_path / "e.jsonl", request(headers()))
    ran = cli("replay", str(tmp_path / "e.jsonl"), "--verify", "MODEL")
    assert ran.exit_code == 2
    assert "[REQUEST_NOT_RECORDED]" in ran.stderr


def test_verify_of_nothing_comparable_exits_with_2(cli, tmp_path):
    write_log(tmp_path / "e.jsonl", everything(), record_requests=True)
    ran = cli("replay", str(tmp_path / "e.jsonl"), "--verify", "MODEL")
    assert ran.exit_code == 2
    assert "another model file" in ran.stdout


@pytest.mark.parametrize("name", ["replay", "report", "top"])
def test_a_file_that_is_no_log_is_one_line_of_error(cli, tmp_path, name):
    (tmp_path / "x").write_text("hello\n")
    ran = cli(name, str(tmp_path / "x"))
    assert ran.exit_code == 2
    assert ran.stderr.count("\n") == 1
    assert "[EVENT_LOG_UNREADABLE]" in ran.stderr


def test_report_writes_a_page_beside_the_log(cli, recorded):
    ran = cli("report", str(recorded), "--title", "<mine>")
    page = recorded.with_name("events.jsonl.html")
    assert ran.exit_code == 0
    assert "2 requests" in ran.stderr
    assert "<h1>&lt;mine&gt;</h1>" in page.read_text(encoding="utf-8")
    assert cli("report", str(recorded), "-o", "-").stdout.startswith("<!doctype html>")


def test_top_shows_a_log_once_off_a_terminal(cli, recorded):
    ran = cli("top", str(recorded))
    assert ran.exit_code == 0
    assert "smallmind top  tiny" in ran.stdout
    assert "mine" in ran.stdout


def test_top_shows_what_a_running_process_serves(cli, tiny_path):
    with (
        PrometheusExporter() as exporter,
        smallmind.load(tiny_path, exporters=[exporter], backend="numpy") as engine,
        exporter.start_http_server() as server,
    ):
        engine.generate("ab", **ASK)
        ran = cli("top", server.url, "--once")
    assert ran.exit_code == 0
    assert "tiny (llama, F32" in ran.stdout
    assert "5 tokens generated" in ran.stdout


def test_speed_comes_from_the_difference_of_two_scrapes(tiny_path):
    now = 100.0
    with (
        PrometheusExporter() as exporter,
        smallmind.load(tiny_path, exporters=[exporter], backend="numpy") as engine,
        exporter.start_http_server() as server,
    ):
        scraper = Scraper(server.url, clock=lambda: now)
        assert scraper.figures().tokens_per_second is None
        engine.generate("ab", **ASK)
        now += 2.0
        figures = scraper.figures()
    assert figures.tokens_per_second == 2.5
    assert figures.history == (2.5,)
    assert dict(figures.ended)["completed"] == 1
    assert figures.first_token.p50_s is not None


def test_quantiles_of_a_page_are_those_of_promql(tiny_path):
    from smallmind._cli.scraping import figures_of

    buckets = (("0.1", 2.0), ("0.2", 6.0), ("+Inf", 8.0))
    name = "time_to_first_token_seconds_bucket"
    figures = figures_of([(name, {"le": bound}, count) for bound, count in buckets])
    assert figures.first_token.p50_s == pytest.approx(0.15)
    assert figures.first_token.p95_s == 0.2


@pytest.mark.parametrize("source", ["http://127.0.0.1:9/metrics"])
def test_a_page_that_is_not_there_is_one_line_of_error(cli, source):
    ran = cli("top", source, "--once")
    assert ran.exit_code == 2
    assert "is the process running" in ran.stderr


def test_only_addresses_of_http_are_scraped():
    with pytest.raises(ConfigError):
        Scraper("file:///etc/passwd")


def test_a_page_of_something_else_is_refused():
    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>{{not metrics")

        def log_message(self, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Other) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        with pytest.raises(ExporterError, match="no page of metrics"):
            Scraper(f"http://127.0.0.1:{server.server_port}/metrics").figures()


class Looks:
    """A pause between two looks that ends after so many, doing something each time."""

    def __init__(self, *turns) -> None:
        self._turns = iter(turns)

    def __call__(self) -> bool:
        turn = next(self._turns, None)
        if turn is not None:
            turn()
        return turn is not None


@pytest.fixture
def watched(monkeypatch):
    """Runs ``top`` as on a terminal; answers with what was drawn at each look."""

    def run(source: str, *turns) -> list[str]:
        console = Console(file=io.StringIO(), force_terminal=True, width=100, record=True)
        screen = Screen(console, console, fancy=True, live=True)
        drawn: list[str] = []

        def show(panel: object) -> None:
            console.print(panel)
            drawn.append(console.export_text())

        monkeypatch.setattr(Screen, "open", lambda: screen)
        monkeypatch.setattr(command, "_drawn", lambda _: _Shown(show))
        monkeypatch.setattr(command, "_pause", lambda *_: Looks(*turns))
        assert command.top(source, interval=1.0, once=False) == 0
        return drawn

    return run


class _Shown:
    def __init__(self, show) -> None:
        self._show = show

    def __enter__(self):
        return self._show

    def __exit__(self, *_: object) -> None:
        pass


def test_top_follows_a_log_as_it_grows(watched, tmp_path):
    path = tmp_path / "e.jsonl"
    with JsonLinesExporter(path) as exporter:

        def work() -> None:
            for event in request(headers("req-7"), tokens=4):
                exporter.export(event)

        drawn = watched(str(path), work)
    assert "req-7" not in drawn[0]
    assert "req-7" in drawn[-1]
    assert "4 tokens generated" in drawn[-1]


def test_top_goes_on_when_a_page_cannot_be_had_for_a_while(watched, tiny_path):
    with (
        PrometheusExporter() as exporter,
        smallmind.load(tiny_path, exporters=[exporter], backend="numpy") as engine,
    ):
        server = exporter.start_http_server()
        first, gone = watched(server.url, server.close)
        engine.generate("a", **ASK)
    assert "smallmind top" in first
    assert "cannot read http://" in " ".join(gone.split())


def test_the_live_display_draws_on_the_terminal():
    console = Console(file=io.StringIO(), force_terminal=True, width=60)
    with command._drawn(Screen(console, console, fancy=True, live=True)) as show:
        show("hello there")
    assert "hello there" in console.file.getvalue()
