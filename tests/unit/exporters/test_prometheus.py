"""The Prometheus exporter, read back with the parsers of ``prometheus_client``."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text

from smallmind_engine.telemetry import ANCHOR, Event, EventBus, FlushResult, StopReason
from smallmind_engine.telemetry.errors import ClosedError, ExporterError
from smallmind_exporters.memory import InMemoryExporter
from smallmind_exporters.metrics import FAMILIES, PREFIX, MetricKind
from smallmind_exporters.prometheus import PrometheusExporter
from telemetry_events import (
    MODEL,
    SPAN_ID,
    TRACE_ID,
    correlation,
    every_kind,
    headers,
    model_load,
    publish,
    request,
)

GOLDEN = Path(__file__).with_name("golden_metrics.txt")
RELOAD = "import smallmind_exporters.prometheus, sys"


@pytest.fixture
def exporter():
    with PrometheusExporter() as made:
        yield made


def take(exporter, *streams):
    for stream in streams:
        for event in stream:
            exporter.export(event)


def sample(exporter, name, /, **labels):
    return exporter.registry.get_sample_value(PREFIX + name, labels)


def samples_of(families):
    return {
        (one.name, tuple(sorted(one.labels.items()))): one.value
        for family in families
        for one in family.samples
    }


def test_the_exposition_of_a_small_stream_is_exactly_this(exporter):
    take(exporter, every_kind(headers()))
    exporter.bind_health(lambda: ())
    assert exporter.render() == GOLDEN.read_bytes()


def test_text_is_understood_by_the_official_parser(exporter):
    take(exporter, every_kind(headers()))
    families = {family.name: family for family in parse_text(exporter.render().decode())}
    shown = {PREFIX + family.name.removesuffix("_total") for family in FAMILIES}
    assert set(families) == shown
    tokens = families["smallmind_generated_tokens"].samples[0]
    assert (tokens.labels, tokens.value) == ({"model": MODEL}, 4.0)


def test_openmetrics_is_understood_by_its_strict_parser_and_says_the_same(exporter):
    take(exporter, every_kind(headers()))
    text = samples_of(parse_text(exporter.render().decode()))
    openmetrics = exporter.render(openmetrics=True).decode()
    assert openmetrics.endswith("# EOF\n")
    assert samples_of(parse_openmetrics(openmetrics)) == text


def test_an_idle_exporter_gives_valid_text_too(exporter):
    assert list(parse_text(exporter.render().decode()))
    assert list(parse_openmetrics(exporter.render(openmetrics=True).decode()))


def test_names_units_and_types_are_those_of_the_table(exporter):
    take(exporter, every_kind(headers()))
    families = {
        family.name: family
        for family in parse_openmetrics(exporter.render(openmetrics=True).decode())
    }
    for family in FAMILIES:
        suffix = {MetricKind.COUNTER: "_total", MetricKind.INFO: "_info"}.get(family.kind, "")
        shown = families[PREFIX + family.name.removesuffix(suffix)]
        assert (shown.type, shown.documentation) == (family.kind, family.help)
        assert shown.unit == family.unit


def test_hostile_names_do_not_break_the_exposition(exporter):
    nasty = 'a"b\\c\nd{e="f"} 1 # \ud800'
    take(exporter, model_load(headers(), model=nasty), request(headers("r"), model=nasty))
    parsed = samples_of(parse_openmetrics(exporter.render(openmetrics=True).decode()))
    shown = nasty.replace("\ud800", "?")
    assert parsed["smallmind_generated_tokens_total", (("model", shown),)] == 4


def test_exemplars_lead_from_a_slow_bucket_to_its_trace(exporter):
    take(exporter, request(headers(first=50)))
    found = {
        one.name: one.exemplar
        for family in parse_openmetrics(exporter.render(openmetrics=True).decode())
        for one in family.samples
        if one.exemplar
    }
    assert set(found) == {
        "smallmind_request_duration_seconds_bucket",
        "smallmind_time_to_first_token_seconds_bucket",
    }
    exemplar = found["smallmind_time_to_first_token_seconds_bucket"]
    assert exemplar.labels == {"trace_id": TRACE_ID, "span_id": SPAN_ID}
    assert exemplar.value == 0.328125
    (stopped,) = list(request(headers(first=50)))[-1:]
    assert float(exemplar.timestamp) == pytest.approx(ANCHOR.to_wall_ns(stopped.time_ns) / 1e9)
    assert sum(len(key) + len(value) for key, value in exemplar.labels.items()) <= 128


def test_plain_text_has_no_exemplars(exporter):
    take(exporter, request(headers()))
    assert TRACE_ID.encode() not in exporter.render()


def test_scrapes_change_nothing(exporter):
    take(exporter, every_kind(headers()))
    assert exporter.render() == exporter.render()
    assert exporter.render(openmetrics=True) == exporter.render(openmetrics=True)


def test_scrapes_during_generation_see_whole_requests(exporter):
    stop = threading.Event()
    seen = []

    def scrape():
        while not stop.is_set():
            parsed = samples_of(parse_text(exporter.render().decode()))
            ended = parsed.get(
                ("smallmind_request_duration_seconds_count",
                 (("model", MODEL), ("status", "completed"))), 0
            )  # fmt: skip
            first = parsed.get(
                ("smallmind_time_to_first_token_seconds_count", (("model", MODEL),)), 0
            )
            seen.append((ended, first))

    scraper = threading.Thread(target=scrape)
    scraper.start()
    bus = EventBus()
    with bus.subscribe(exporter):
        for turn in range(200):
            publish(bus, request, correlation(f"req-{turn}"))
    stop.set()
    scraper.join()
    assert seen
    assert all(ended == first for ended, first in seen)
    assert sample(exporter, "time_to_first_token_seconds_count", model=MODEL) == 200


def test_a_real_bus_feeds_it_and_its_health_is_shown(exporter):
    class Broken:
        name = "broken"
        interests = exporter.interests
        inline = True

        def export(self, event: Event, /) -> None:
            raise RuntimeError(event.sequence)

        def flush(self, timeout_s: float) -> FlushResult:
            return FlushResult()

        def close(self) -> None: ...

    bus = EventBus()
    exporter.bind_health(bus.health)
    with bus.subscribe(exporter), bus.subscribe(Broken()):
        publish(bus, request)
        assert sample(exporter, "requests_in_flight", model=MODEL) == 0
        assert sample(exporter, "generated_tokens_total", model=MODEL) == 4
        errors = {
            name: sample(exporter, "telemetry_exporter_errors_total", exporter=name)
            for name in ("broken", "prometheus")
        }
    assert errors == {"broken": 5, "prometheus": 0}
    assert sample(exporter, "degraded_total", reason="EXPORTER_DETACHED") == 1
    assert sample(exporter, "log_events_total", level="warn") == 1


def test_health_may_be_handed_in_when_it_is_made():
    bus = EventBus()
    with PrometheusExporter(health=bus.health) as exporter, bus.subscribe(exporter):
        assert sample(exporter, "telemetry_events_dropped_total", exporter="prometheus") == 0


def test_an_exporter_on_two_buses_shows_the_health_of_both(exporter):
    buses = [EventBus(), EventBus()]
    for bus in buses:
        exporter.bind_health(bus.health)
        exporter.bind_health(bus.health)
    with buses[0].subscribe(exporter), buses[1].subscribe(InMemoryExporter()):
        shown = {
            name: sample(exporter, "telemetry_exporter_errors_total", exporter=name)
            for name in ("prometheus", "memory")
        }
    assert shown == {"prometheus": 0, "memory": 0}


def test_a_health_source_that_fails_does_not_fail_the_scrape(exporter):
    def broken():
        raise RuntimeError("no health today")

    exporter.bind_health(broken)
    take(exporter, request(headers()))
    assert sample(exporter, "generated_tokens_total", model=MODEL) == 4
    assert sample(exporter, "telemetry_exporter_errors_total", exporter="prometheus") == 2


def test_two_engines_with_registries_of_their_own_do_not_mix():
    with PrometheusExporter() as one, PrometheusExporter() as other:
        take(one, request(headers()))
        assert sample(one, "generated_tokens_total", model=MODEL) == 4
        assert sample(other, "generated_tokens_total", model=MODEL) is None


def test_two_engines_in_one_registry_add_up():
    registry = CollectorRegistry()
    with PrometheusExporter(registry=registry) as one, PrometheusExporter(registry=registry) as two:
        take(one, request(headers()))
        take(two, request(headers()), request(headers(), model="other"))
        assert sample(one, "generated_tokens_total", model=MODEL) == 8
        assert sample(two, "generated_tokens_total", model="other") == 4
        assert sample(one, "kv_cache_capacity_tokens", model=MODEL) == 4096
        assert one.render() == two.render()


def test_counters_never_go_back_when_an_engine_closes_and_gauges_go():
    registry = CollectorRegistry()
    first = PrometheusExporter(registry=registry)
    take(first, model_load(headers()), request(headers()))
    first.close()
    assert sample(first, "generated_tokens_total", model=MODEL) == 4
    assert sample(first, "kv_cache_capacity_tokens", model=MODEL) is None
    assert b"smallmind_model_info{" not in first.render()
    with PrometheusExporter(registry=registry) as second:
        take(second, request(headers()))
        assert sample(second, "generated_tokens_total", model=MODEL) == 8
        assert sample(second, "time_to_first_token_seconds_count", model=MODEL) == 2
        assert second.render() == second.render()


def test_metrics_of_others_in_the_registry_stay():
    registry = CollectorRegistry()
    theirs = Counter("theirs", "Theirs.", registry=registry)
    theirs.inc()
    PrometheusExporter(registry=registry).close()
    assert registry.get_sample_value("theirs_total") == 1
    registry.unregister(theirs)


def test_a_clash_of_names_is_told_and_leaves_the_registry_as_it_was():
    registry = CollectorRegistry()
    Counter("smallmind_requests", "Theirs.", registry=registry)
    with pytest.raises(ExporterError, match=r"already.*hand in another registry"):
        PrometheusExporter(registry=registry)
    assert registry.get_sample_value("smallmind_requests_total") == 0
    assert registry.get_sample_value("smallmind_queue_depth") is None


def test_registering_does_not_collect():
    class Recording(CollectorRegistry):
        def register(self, collector):
            collected = []
            collector.collect = lambda: collected.append(1) or iter(())
            super().register(collector)
            assert collected == []

    PrometheusExporter(registry=Recording(auto_describe=True)).close()


def test_a_registry_that_nobody_holds_is_let_go():
    from weakref import ref

    exporter = PrometheusExporter()
    registry = ref(exporter.registry)
    exporter.close()
    del exporter
    gc.collect()
    assert registry() is None


def test_engines_may_be_made_at_once_in_one_registry():
    registry = CollectorRegistry()
    made = []
    makers = [
        threading.Thread(target=lambda: made.append(PrometheusExporter(registry=registry)))
        for _ in range(8)
    ]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    assert len(made) == 8
    take(made[0], request(headers()))
    assert sample(made[7], "generated_tokens_total", model=MODEL) == 4
    for exporter in made:
        exporter.close()


def test_after_close_numbers_can_be_read_and_nothing_is_added(exporter):
    take(exporter, request(headers()))
    exporter.close()
    take(exporter, request(headers("req-2")))
    exporter.bind_health(lambda: ())
    assert sample(exporter, "generated_tokens_total", model=MODEL) == 4


def test_a_closed_exporter_starts_no_server(exporter):
    exporter.close()
    with pytest.raises(ClosedError, match="closed"):
        exporter.start_http_server()


def test_models_beyond_the_limit_share_a_label():
    with PrometheusExporter(max_models=1) as exporter:
        take(exporter, request(headers()), request(headers(), model="b"))
        assert sample(exporter, "generated_tokens_total", model="_other") == 4
        assert sample(exporter, "generated_tokens_total", model="b") is None


def test_reasons_of_all_stops_reach_the_exposition(exporter):
    for number, reason in enumerate(StopReason):
        take(exporter, request(headers(f"req-{number}"), reason=reason))
    stopped = {
        one.labels["reason"]: one.value
        for family in parse_text(exporter.render().decode())
        for one in family.samples
        if one.name == "smallmind_requests_total" and one.value
    }
    assert stopped == {reason.value: 1 for reason in StopReason}


def run_python(script):
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )


def test_importing_the_exporter_does_not_import_the_client():
    done = run_python(f"{RELOAD}; sys.exit('prometheus_client' in sys.modules)")
    assert done.returncode == 0, done.stderr


def test_without_the_client_the_error_says_what_to_install():
    done = run_python(
        f"{RELOAD}\n"
        "sys.modules['prometheus_client'] = None\n"
        "smallmind_exporters.prometheus.PrometheusExporter()\n"
    )
    assert done.returncode == 1
    assert "MissingExtraError: the Prometheus exporter needs the extra" in done.stderr
    assert 'pip install "smallmind[prometheus]"' in done.stderr


FORKED = """
import os, sys
sys.path[:0] = {path!r}
from telemetry_events import headers, model_load, request
from smallmind_exporters.prometheus import PrometheusExporter
exporter = PrometheusExporter()
server = exporter.start_http_server()
for event in (*model_load(headers()), *request(headers()), *list(request(headers("open")))[:2]):
    exporter.export(event)
def value(name, **labels):
    return exporter.registry.get_sample_value("smallmind_" + name, labels)
pid = os.fork()
if pid == 0:
    try:
        names = "generated_tokens_total", "requests_in_flight"
        zero = tuple(value(name, model="tiny") for name in names)
        for event in request(headers("child")):
            exporter.export(event)
        own = value("generated_tokens_total", model="tiny")
        info = b"smallmind_model_info{{" in exporter.render()
        with exporter.start_http_server() as second:
            from urllib.request import urlopen
            served = b'generated_tokens_total{{model="tiny"}} 4.0' in urlopen(second.url).read()
        exporter.close()
        os._exit(0 if (zero, own, info, served) == ((0, 0), 4, True, True) else 3)
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(4)
_, status = os.waitpid(pid, 0)
assert value("generated_tokens_total", model="tiny") == 4
assert value("requests_in_flight", model="tiny") == 1
exporter.close()
sys.exit(os.waitstatus_to_exitcode(status))
"""


def test_a_forked_child_counts_for_itself_and_keeps_what_is_loaded():
    done = run_python(FORKED.format(path=sys.path))
    assert done.returncode == 0, (done.returncode, done.stderr)
