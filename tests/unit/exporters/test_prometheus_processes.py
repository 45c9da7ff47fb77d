"""Several worker processes, one scrape: real processes, forked, spawned, and killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)

from smallmind_engine.telemetry.errors import ExporterError
from smallmind_exporters.metrics import FAMILIES, MetricStore
from smallmind_exporters.prometheus import PrometheusExporter
from smallmind_exporters.prometheus.exchange import snapshot_from_json, snapshot_to_json
from telemetry_events import (
    MODEL,
    TRACE_ID,
    correlation,
    every_kind,
    headers,
    request,
)

TOKENS = 4  # of a request

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fcntl")


WORKER = """
import sys
sys.path[:0] = {path!r}
from telemetry_events import headers, model_load, request
from smallmind_exporters.prometheus import PrometheusExporter
with PrometheusExporter(multiprocess_dir={folder!r}) as exporter:
    for event in model_load(headers()):
        exporter.export(event)
    for number in range({requests}):
        for event in request(headers("req-" + str(number))):
            exporter.export(event)
    exporter.flush(1.0)
    print("ready", flush=True)
    sys.stdin.readline()
"""


class Workers:
    """Processes that share a folder."""

    def __init__(self, folder):
        self.folder = folder
        self.processes = []

    def start(self, *requests):
        """Start one for each number of requests; returns when they have answered them."""
        started = [
            subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    WORKER.format(path=sys.path, folder=str(self.folder), requests=number),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            for number in requests
        ]
        self.processes += started
        assert [process.stdout.readline() for process in started] == [b"ready\n"] * len(started)
        return started

    def end(self):
        while self.processes:
            process = self.processes.pop()
            process.communicate(b"\n" if process.poll() is None else None, timeout=60)


@pytest.fixture
def workers(tmp_path):
    made = Workers(tmp_path / "shared")
    yield made
    made.end()


def shown(exporter, name, /, **labels):
    return exporter.registry.get_sample_value("smallmind_" + name, labels)


def take(exporter, *streams):
    for stream in streams:
        for event in stream:
            exporter.export(event)


@pytest.fixture
def scraper(tmp_path):
    with PrometheusExporter(multiprocess_dir=tmp_path / "shared") as exporter:
        yield exporter


def test_one_scrape_shows_what_all_workers_counted(workers, scraper):
    workers.start(1, 2)
    take(scraper, request(headers("mine")))
    assert shown(scraper, "generated_tokens_total", model=MODEL) == 4 * TOKENS
    assert shown(scraper, "time_to_first_token_seconds_count", model=MODEL) == 4
    assert shown(scraper, "model_loads_total", model=MODEL, status="completed") == 2
    assert shown(scraper, "kv_cache_capacity_tokens", model=MODEL) == 3 * 2048
    assert shown(scraper, "telemetry_processes") == 3


def test_exemplars_of_other_processes_are_shown(workers, scraper):
    workers.start(1)
    text = scraper.render(openmetrics=True).decode()
    families = {family.name: family for family in parse_openmetrics(text)}
    exemplars = [
        one.exemplar
        for one in families["smallmind_time_to_first_token_seconds"].samples
        if one.exemplar
    ]
    assert [exemplar.labels["trace_id"] for exemplar in exemplars] == [TRACE_ID]


def test_counters_of_ended_workers_stay_and_their_gauges_go(workers, scraper):
    workers.start(2, 3)
    workers.end()
    for _ in range(3):  # nothing is counted twice, however often it is scraped
        assert shown(scraper, "generated_tokens_total", model=MODEL) == 5 * TOKENS
        assert shown(scraper, "kv_cache_capacity_tokens", model=MODEL) is None
        assert shown(scraper, "telemetry_processes") == 1
    left = sorted(path.name for path in scraper._collector._processes.folder.iterdir())
    assert [name for name in left if name.startswith("gone")] == ["gone.guard", "gone.json"]
    assert len(left) == 4  # and the scraper's own two


def test_a_killed_worker_loses_nothing_that_it_had_written(workers, scraper):
    (victim,) = workers.start(3)
    os.kill(victim.pid, signal.SIGKILL)
    victim.wait(60)
    assert shown(scraper, "generated_tokens_total", model=MODEL) == 3 * TOKENS
    assert shown(scraper, "telemetry_processes") == 1


def test_restarted_workers_count_on(workers, scraper):
    workers.start(1)
    workers.end()
    before = shown(scraper, "generated_tokens_total", model=MODEL)
    workers.start(2)
    assert (before, shown(scraper, "generated_tokens_total", model=MODEL)) == (4, 12)


def test_numbers_are_written_by_themselves(tmp_path, scraper):
    with PrometheusExporter(multiprocess_dir=tmp_path / "shared") as busy:
        take(busy, request(headers()))
        deadline = time.monotonic() + 30
        while shown(scraper, "generated_tokens_total", model=MODEL) != TOKENS:
            assert time.monotonic() < deadline
            time.sleep(0.05)


FORKED = """
import os, sys
sys.path[:0] = {path!r}
from telemetry_events import headers, model_load, request
from smallmind_exporters.prometheus import PrometheusExporter
exporter = PrometheusExporter(multiprocess_dir={folder!r})
def value(name, **labels):
    return exporter.registry.get_sample_value("smallmind_" + name, labels)
for event in (*model_load(headers()), *request(headers())):
    exporter.export(event)
children = []
for number in range(3):
    pid = os.fork()
    if pid == 0:
        for event in request(headers("child")):
            exporter.export(event)
        exporter.flush(1.0)
        os._exit(0 if value("generated_tokens_total", model="tiny") >= 4 else 3)
    children.append(pid)
codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
assert codes == [0, 0, 0], codes
assert value("generated_tokens_total", model="tiny") == 16, exporter.render()
assert value("telemetry_processes") == 1
exporter.close()
assert value("generated_tokens_total", model="tiny") == 16
"""


def test_workers_forked_from_a_loaded_server_are_members_of_their_own(tmp_path):
    script = FORKED.format(path=sys.path, folder=str(tmp_path / "shared"))
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


AT_EXIT = """
import sys
sys.path[:0] = {path!r}
from telemetry_events import headers, request
from smallmind_exporters.prometheus import PrometheusExporter
exporter = PrometheusExporter(multiprocess_dir={folder!r})
for event in request(headers()):
    exporter.export(event)
"""


def test_the_last_numbers_are_written_at_exit(tmp_path, scraper):
    script = AT_EXIT.format(path=sys.path, folder=str(tmp_path / "shared"))
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert shown(scraper, "generated_tokens_total", model=MODEL) == TOKENS


def test_many_scrapers_at_once_count_a_gone_worker_once(workers, tmp_path):
    workers.start(1, 1)
    workers.end()
    scrapers = [PrometheusExporter(multiprocess_dir=tmp_path / "shared") for _ in range(4)]
    seen = []

    def scrape(exporter):
        seen.append(shown(exporter, "generated_tokens_total", model=MODEL))

    threads = [threading.Thread(target=scrape, args=(each,)) for each in scrapers * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for each in scrapers:
        each.close()
    assert seen == [2 * TOKENS] * 12


def test_a_burial_that_was_cut_short_is_finished_and_not_repeated(workers, tmp_path, scraper):
    workers.start(2)
    workers.end()
    folder = tmp_path / "shared"
    kept = {
        path: path.read_bytes()
        for path in folder.iterdir()
        if not path.name.startswith(("gone", str(os.getpid())))
    }
    assert shown(scraper, "generated_tokens_total", model=MODEL) == 2 * TOKENS
    for path, content in kept.items():  # as if it had died before it removed the files
        path.write_bytes(content)
    gone = json.loads((folder / "gone.json").read_text())
    gone["members"] = [path.name.removesuffix(".lock") for path in kept if path.suffix == ".lock"]
    (folder / "gone.json").write_text(json.dumps(gone))
    assert shown(scraper, "generated_tokens_total", model=MODEL) == 2 * TOKENS
    assert not [path for path in kept if path.exists()]


def test_a_folder_that_is_emptied_meanwhile_is_joined_again(tmp_path, scraper):
    with PrometheusExporter(multiprocess_dir=tmp_path / "shared") as other:
        take(other, request(headers()))
        for path in (tmp_path / "shared").iterdir():
            path.unlink()
        other.flush(1.0)
        assert shown(scraper, "generated_tokens_total", model=MODEL) == TOKENS


def test_damaged_and_foreign_files_are_left_out(tmp_path, scraper):
    folder = tmp_path / "shared"
    (folder / "1-a.lock").touch()
    (folder / "1-a.numbers.json").write_text('{"schema": 1, "families": {"requests_total": [7]}}')
    (folder / "2-b.lock").touch()
    (folder / "2-b.numbers.json").write_text("half a docum")
    (folder / "3-c.lock").touch()
    (folder / "gone.json").write_text("[]")
    assert shown(scraper, "telemetry_processes") == 1
    assert shown(scraper, "telemetry_exporter_errors_total", exporter="prometheus") is None


def test_a_folder_that_cannot_be_read_is_counted_and_fails_no_scrape(tmp_path, scraper):
    folder = tmp_path / "shared"
    folder.rename(tmp_path / "moved")
    take(scraper, request(headers()))
    assert shown(scraper, "generated_tokens_total", model=MODEL) == TOKENS
    assert shown(scraper, "telemetry_exporter_errors_total", exporter="prometheus") == 2
    (tmp_path / "moved").rename(folder)


def test_the_folder_of_the_clients_own_mode_is_used(tmp_path, monkeypatch):
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    with PrometheusExporter() as one, PrometheusExporter() as other:
        take(one, request(headers()))
        one.flush(1.0)
        assert shown(other, "generated_tokens_total", model=MODEL) == TOKENS
    assert {path.name for path in tmp_path.iterdir()} == {"smallmind"}


BESIDE_THE_CLIENT = """
import os, sys
sys.path[:0] = {path!r}
os.environ["PROMETHEUS_MULTIPROC_DIR"] = {folder!r}
from prometheus_client import CollectorRegistry, Counter, generate_latest, multiprocess
from telemetry_events import headers, request
from smallmind_exporters.prometheus import PrometheusExporter
exporter = PrometheusExporter()
theirs = Counter("theirs", "Theirs.")
if os.fork() == 0:
    theirs.inc(2)
    for event in request(headers()):
        exporter.export(event)
    exporter.flush(1.0)
    os._exit(0)
os.wait()
registry = CollectorRegistry()
multiprocess.MultiProcessCollector(registry)
registry.register(exporter.collector)
text = generate_latest(registry).decode()
assert "theirs_total 2.0" in text, text
assert 'smallmind_generated_tokens_total{{model="tiny"}} 4.0' in text, text
"""


def test_it_stands_beside_the_multiprocess_mode_of_the_client(tmp_path):
    script = BESIDE_THE_CLIENT.format(path=sys.path, folder=str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("parent", ["a_file", "/proc/nowhere"])
def test_a_folder_that_cannot_be_used_is_refused_loudly(tmp_path, parent):
    (tmp_path / "a_file").touch()
    with pytest.raises(ExporterError, match="cannot carry the metrics of several processes"):
        PrometheusExporter(multiprocess_dir=tmp_path / parent / "shared")


def test_a_registry_shares_one_folder_only(tmp_path):
    registry = CollectorRegistry()
    with (
        PrometheusExporter(registry=registry, multiprocess_dir=tmp_path / "a"),
        pytest.raises(ExporterError, match=r"shares .* already"),
    ):
        PrometheusExporter(registry=registry, multiprocess_dir=tmp_path / "b")


def test_a_closed_exporter_leaves_no_thread_and_its_numbers_stay(tmp_path, scraper):
    before = threading.active_count()
    registry = CollectorRegistry()
    with PrometheusExporter(registry=registry, multiprocess_dir=tmp_path / "shared") as one:
        take(one, request(headers()))
    assert [shown(each, "generated_tokens_total", model=MODEL) for each in (one, scraper)] == [4, 4]
    deadline = time.monotonic() + 30
    while threading.active_count() > before:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with PrometheusExporter(registry=registry, multiprocess_dir=tmp_path / "shared") as two:
        take(two, request(headers()))
        two.flush(1.0)
        assert shown(scraper, "generated_tokens_total", model=MODEL) == 8


def test_a_snapshot_keeps_every_number_exactly():
    store = MetricStore()
    for event in every_kind(headers(correlation())):
        store.take(event)
    before = store.snapshot()
    text = snapshot_to_json(before)
    after = snapshot_from_json(text)
    assert snapshot_to_json(after) == text
    assert list(after) == [family for family in FAMILIES if family in before]


@pytest.mark.parametrize("text", ["", "[]", '{"schema": 99}', '{"schema": 1, "families": [1]}'])
def test_what_is_no_snapshot_is_told(text):
    with pytest.raises(ValueError, match=r"."):
        snapshot_from_json(text)


def test_families_and_buckets_of_another_version_are_left_out():
    text = json.dumps(
        {
            "schema": 1,
            "families": {
                "of_the_future_total": [[[], [1]]],
                "generated_tokens_total": [[["tiny"], [3]], [["tiny", "more"], [3]]],
                "queue_seconds": [[["tiny"], [[1.0], [1, 2], 3.0, None]]],
            },
        }
    )
    kept = {
        family.name: [(values, series.value) for values, series in rows.items()]
        for family, rows in snapshot_from_json(text).items()
    }
    assert kept == {"generated_tokens_total": [(("tiny",), 3)], "queue_seconds": []}


def test_the_writer_goes_on_when_the_disk_is_full_for_a_while(tmp_path, monkeypatch):
    failed = threading.Event()
    write_text = Path.write_text

    def full(self, *args, **options):
        if not failed.is_set() and ".numbers.json." in self.name:
            failed.set()
            raise OSError(28, "No space left on device")
        return write_text(self, *args, **options)

    with (
        PrometheusExporter(multiprocess_dir=tmp_path) as one,
        PrometheusExporter(multiprocess_dir=tmp_path) as other,
    ):
        monkeypatch.setattr(Path, "write_text", full)
        take(one, request(headers()))
        deadline = time.monotonic() + 30
        while shown(other, "generated_tokens_total", model=MODEL) != TOKENS:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert failed.is_set()
        errors = "telemetry_exporter_errors_total"
        assert 1 in [shown(each, errors, exporter="prometheus") for each in (one, other)]
