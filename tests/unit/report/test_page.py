"""The page: the log's numbers, readable without a script, and nothing that a log could slip in."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from chromium import visit
from engines import tiny_engine
from event_logs import everything, write_log
from smallmind import CancellationToken
from smallmind._report import collect, render, rendering
from smallmind.replay import EventLog
from smallmind_engine.telemetry import InferenceStopped, TokenGenerated
from smallmind_exporters.jsonl import JsonLinesExporter
from telemetry_events import correlation, headers, request

HOSTILE = (
    "</script><script>console.error('script')</script><img src=http://127.0.0.1:9/i.png"
    " onerror=\"console.error('handler')\">\"'><svg onload=console.error(1)>{{7*7}}<!--"
)


class Page(HTMLParser):
    """Figures, cells and text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.figures: dict[str, str] = {}
        self.ledger: dict[str, float] = {}
        self.percentiles: list[float] = []
        self.rows: list[list[str]] = []
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.text: list[str] = []
        self._in_percentiles = False
        self.feed(html)

    def handle_starttag(self, tag, attrs) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        self.attributes |= given.keys()
        if "data-figure" in given:
            self.figures[given["data-figure"]] = given["data-value"]
        if "data-ledger" in given:
            self.ledger[given["data-ledger"]] = float(given["data-value"])
        if tag == "table":
            self._in_percentiles = given.get("class") == "percentiles"
        if tag == "tr" and given.get("class", "").startswith("request"):
            self.rows.append([])
        if tag == "td" and "data-value" in given:
            if self._in_percentiles:
                self.percentiles.append(float(given["data-value"]))
            elif self.rows:
                self.rows[-1].append(given["data-value"])

    def handle_data(self, data) -> None:
        self.text.append(data)


def logged(folder: Path) -> Path:
    """A log of a real engine with several outcomes."""
    path = folder / "events.jsonl"
    options = {"max_tokens": 6, "ignore_eos": True, "seed": 5}
    log = JsonLinesExporter(path)
    with log, tiny_engine(folder, exporters=[log], backend="numpy") as engine:
        for text in ("ab", "ba", "abc"):
            engine.generate(text, **options)
        with engine.stream("ab", **options) as stream:
            list(stream)
        token = CancellationToken()
        engine.generate("a", cancellation=token, on_token=lambda _: token.cancel(), **options)
        assert engine.flush()["jsonl"].complete
    return path


def page_of(path: Path, title: str = "a log") -> str:
    return render(collect(EventLog.open(path)), title)


@pytest.fixture(scope="module")
def log(tmp_path_factory) -> Path:
    return logged(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def html(log) -> str:
    return page_of(log)


def check_numbers(page: Page, log: Path) -> None:
    """The page's figures are those that the lines of the log add up to."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    stops = [e["data"] for e in lines if e.get("event") == "InferenceStopped"]
    tokens = [e["data"] for e in lines if e.get("event") == "TokenGenerated"]
    assert page.figures["requests"] == str(len(stops))
    assert page.figures["events"] == str(sum("event" in line for line in lines))
    assert page.figures["completion_tokens"] == str(len(tokens))
    whole = [stop["duration_s"] for stop in stops]
    first = [s["time_to_first_token_s"] for s in stops if s["time_to_first_token_s"] is not None]
    between = [token["engine_s"] for token in tokens if token["index"]]
    expected = []
    for seconds in (first, between, whole):
        expected += [len(seconds), np.mean(seconds), *np.percentile(seconds, [50, 90, 95, 99])]
    assert np.allclose(page.percentiles, expected, rtol=1e-12)
    for phase, seconds in page.ledger.items():
        assert seconds == pytest.approx(sum(dict(stop["ledger"])[phase] for stop in stops))
    told = [(int(row[2]), float(row[4])) for row in page.rows]
    assert told == [(stop["completion_tokens"], stop["duration_s"]) for stop in stops]


def test_the_figures_of_the_page_are_those_of_the_log(html, log):
    check_numbers(Page(html), log)


def test_without_a_script_the_essentials_are_there(html):
    body = re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL)
    for word in (
        "Timeline", "Tokens of a request", "Latency", "Where the time went", "Why requests ended",
        "Degradations", "MAX_TOKENS", "CANCELLED_BY_CALLER", "The caller cancelled", "p95",
    ):  # fmt: skip
        assert word in body, word
    assert body.count('class="row"') == 5
    assert re.search(r'<g id="strip"><rect class="prefill"', body)


def test_nothing_is_loaded_from_anywhere(html):
    page = Page(html)
    assert not {"img", "iframe", "object", "embed", "audio", "video"} & set(page.tags)
    assert "src" not in page.attributes
    links = re.findall(r'(?:href|src|action|url)\s*=?\s*["(]([^")]*)', html)
    assert set(links) <= {"data:,"}
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)[1]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy


def test_what_a_log_holds_stays_text(tmp_path):
    ids = correlation(HOSTILE, session_id=HOSTILE)
    events = [
        event._replace(
            **{name: HOSTILE for name in ("message", "component") if name in event._fields}
        )
        for event in everything()
    ]
    write_log(tmp_path / "e.jsonl", [*events, *request(headers(ids, first=500), model=HOSTILE)])
    page = Page(html := page_of(tmp_path / "e.jsonl", HOSTILE))
    assert page.tags.count("script") == 2
    assert not {"img", "onerror", "onload"} & {*page.tags, *page.attributes}
    assert "49" not in re.findall(r"\{\{.*?\}\}", html)
    data = re.search(r'id="data">(.*?)</script>', html, re.DOTALL)[1]
    assert json.loads(data)[-1]["id"] == HOSTILE


def test_a_page_says_what_is_missing(tmp_path):
    path = tmp_path / "e.jsonl"
    write_log(path, everything())
    with path.open("a") as file:
        file.write('{"lost":{"events":5,"cause":"OSError"}}\n{"ev')
    page = Page(page_of(path))
    text = " ".join(page.text)
    assert page.figures["lost"] == "5"
    assert "This log is not complete" in text
    assert "the process died while it wrote" in text


def test_a_log_of_many_requests_shows_the_last_ones_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(rendering, "MOST_REQUESTS", 10)
    monkeypatch.setattr(rendering, "MOST_TOKENS", 20)
    events = [e for n in range(250) for e in request(headers(f"r{n}", first=n * 100 + 1))]
    write_log(tmp_path / "e.jsonl", events)
    html = page_of(tmp_path / "e.jsonl")
    page, text = Page(html), " ".join(Page(html).text)
    assert page.figures["requests"] == "250"
    assert len(page.rows) == 10
    assert "240 earlier ones are in the figures above" in text
    assert "50 earlier ones are not drawn" in text
    document = json.loads(re.search(r'id="data">(.*?)</script>', html, re.DOTALL)[1])
    assert [each["engine"] is None for each in document] == [True] * 5 + [False] * 5


def test_an_empty_log_makes_a_page(tmp_path):
    with JsonLinesExporter(tmp_path / "e.jsonl") as log:
        log._log.ready_for(0)
    assert "No request is in this log" in page_of(tmp_path / "e.jsonl")


def test_values_that_are_no_numbers_do_no_harm(tmp_path):
    odd = [
        event._replace(engine_s=float("nan"), consumer_s=float("-inf"))
        if isinstance(event, TokenGenerated)
        else event._replace(duration_s=float("inf"))
        if isinstance(event, InferenceStopped)
        else event
        for event in request(headers())
    ]
    write_log(tmp_path / "e.jsonl", odd)
    assert "NaN" not in re.search(r'id="data">(.*?)</script>', page_of(tmp_path / "e.jsonl"))[1]


def test_the_page_opens_in_a_browser_without_an_error_or_a_request(html, log, tmp_path):
    page = tmp_path / "report.html"
    page.write_text(html, encoding="utf-8")
    seen = visit(page, tmp_path)
    assert seen.console == []
    assert seen.requested == set()
    assert 'class="interactive"' in seen.dom
    assert seen.dom.count("<option") == 5
    check_numbers(Page(seen.dom), log)


def test_a_hostile_log_runs_nothing_in_a_browser(tmp_path):
    ids = correlation(HOSTILE, session_id=HOSTILE)
    write_log(tmp_path / "e.jsonl", request(headers(ids), model=HOSTILE))
    page = tmp_path / "report.html"
    page.write_text(page_of(tmp_path / "e.jsonl", HOSTILE), encoding="utf-8")
    seen = visit(page, tmp_path)
    assert seen.console == []
    assert seen.requested == set()
    assert 'class="interactive"' in seen.dom


_DRIVE = """
document.querySelectorAll('#requests tr.request')[0].click();
const chosen = document.getElementById('strip-name').textContent;
const bars = document.querySelectorAll('#strip rect').length;
document.querySelectorAll('#requests th')[7].click();
const rows = [...document.querySelectorAll('#requests tbody tr')];
const sorted = rows.map((r) => Number(r.cells[7].dataset.value));
const filter = document.getElementById('filter');
filter.value = 'cancelled';
filter.dispatchEvent(new Event('input'));
const shown = rows.filter((r) => !r.hidden).length;
document.body.dataset.driven = JSON.stringify({ chosen, bars, sorted, shown });
"""


def test_a_request_can_be_chosen_and_the_table_sorted_and_filtered(html, log, tmp_path):
    free = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", html)
    page = tmp_path / "driven.html"
    page.write_text(free.replace("</body>", f"<script>{_DRIVE}</script></body>"), encoding="utf-8")
    seen = visit(page, tmp_path)
    assert seen.console == []
    encoded = re.search(r"data-driven=\"([^\"]*)\"", seen.dom)[1]
    told = json.loads(encoded.replace("&quot;", '"'))
    first, *_ = collect(EventLog.open(log)).requests
    assert told["chosen"].startswith(f"{first.request_id}: completed (MAX_TOKENS)")
    assert told["bars"] >= 6
    assert told["sorted"] == sorted(told["sorted"], reverse=True)
    assert told["shown"] == 1
