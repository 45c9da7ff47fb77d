"""What the package offers to users' tests: capture, samples, and the contract of exporters."""

from __future__ import annotations

import pytest

from engines import tiny_engine
from smallmind import Engine, StopReason
from smallmind.testing import (
    CHECKS,
    ExporterContract,
    capture,
    check_exporter,
    every_event,
    request_events,
)
from smallmind_engine.telemetry import (
    ALL_KINDS,
    BY_NAME_ONLY,
    Event,
    FlushResult,
    InferenceStopped,
    ModelLoadEnded,
    TokenGenerated,
)
from smallmind_exporters.memory import InMemoryExporter


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    with tiny_engine(tmp_path_factory.mktemp("testing")) as made:
        yield made


OPTIONS = {"temperature": 0.0, "ignore_eos": True}


def test_capture_sees_the_requests_inside_its_block_only(engine: Engine):
    engine.generate("before", max_tokens=2, **OPTIONS)
    with capture(engine) as seen:
        result = engine.generate("inside", max_tokens=3, **OPTIONS)
    engine.generate("after", max_tokens=2, **OPTIONS)
    assert seen.request_ids == (result.correlation.request_id,)
    seen.assert_completed()
    seen.assert_stopped(StopReason.MAX_TOKENS)
    seen.assert_ttft_below(60.0)
    seen.assert_tokens(completion=3, prompt=result.usage.prompt_tokens, cached=0)
    seen.assert_ordered()
    seen.assert_correlated()
    seen.assert_no_degradation()


def test_a_recording_may_be_an_exporter_of_the_engine_and_sees_its_load(tmp_path):
    with capture() as seen, tiny_engine(tmp_path, exporters=[seen]) as made:
        made.generate("hello", max_tokens=2, **OPTIONS)
    assert len(seen.of(ModelLoadEnded)) == 1
    seen.assert_tokens(completion=2)


def test_capture_may_watch_several_engines(engine: Engine, tmp_path):
    with tiny_engine(tmp_path) as other, capture(engine, other) as seen:
        engine.generate("one", max_tokens=1, **OPTIONS)
        other.generate("two", max_tokens=1, **OPTIONS)
    assert len(seen.of(InferenceStopped)) == 2


def test_assertions_tell_what_was_found_instead(engine: Engine):
    with capture(engine) as seen:
        engine.generate("hello", max_tokens=3, **OPTIONS)
    with pytest.raises(AssertionError, match="has 3 completion tokens, expected 4"):
        seen.assert_tokens(completion=4)
    with pytest.raises(AssertionError, match="expected below 1e-09 s"):
        seen.assert_ttft_below(1e-9)
    with pytest.raises(AssertionError, match="stopped with MAX_TOKENS, expected COMPLETED"):
        seen.assert_stopped(StopReason.COMPLETED)


def test_capture_stops_when_the_block_raises(engine: Engine):
    with pytest.raises(RuntimeError), capture(engine):
        raise RuntimeError
    assert engine.bus.wants == 0


def test_samples_are_a_whole_request_and_every_type_of_event():
    memory = InMemoryExporter()
    for event in request_events(tokens=3):
        memory.export(event)
    memory.assert_ordered()
    memory.assert_correlated()
    memory.assert_tokens(completion=3)
    kinds = 0
    for event in every_event():
        kinds |= event.kind
    assert kinds == ALL_KINDS | BY_NAME_ONLY


class Correct:
    """The least that keeps the contract."""

    name = "correct"
    interests = ALL_KINDS
    inline = False

    def __init__(self) -> None:
        import os

        self.delivered, self.closed, self.pid, self.getpid = 0, False, os.getpid(), os.getpid

    def export(self, event: Event, /) -> None:
        if self.pid != self.getpid():
            self.delivered, self.pid = 0, self.getpid()
        self.delivered += not self.closed

    def flush(self, timeout_s: float) -> FlushResult:
        return FlushResult(delivered=self.delivered)

    def close(self) -> None:
        self.closed = True


class TestCorrect(ExporterContract):
    """The class of tests, as a user derives it."""

    def make(self) -> Correct:
        return Correct()


def test_the_class_of_tests_has_one_for_each_check():
    tests = [name for name in dir(ExporterContract) if name.startswith("test_")]
    assert len(tests) == len(CHECKS)


class Lying(Correct):
    def flush(self, timeout_s: float) -> FlushResult:
        return FlushResult(delivered=self.delivered + 1)


class Late(Correct):
    def export(self, event: Event, /) -> None:
        self.delivered += 1


class Shouting(Correct):
    name = "SHOUTING"


class Fragile(Correct):
    def export(self, event: Event, /) -> None:
        if isinstance(event, TokenGenerated):
            event.model.encode()
        super().export(event)


class Inherited(Correct):
    def __init__(self) -> None:
        super().__init__()
        self.getpid = lambda: self.pid


class Slow(Correct):
    def flush(self, timeout_s: float) -> FlushResult:
        import time

        time.sleep(timeout_s + 1.2)
        return super().flush(timeout_s)


@pytest.mark.parametrize(
    ("kind", "check"),
    [
        (Lying, "flush_tells_what_was_delivered"),
        (Late, "what_comes_after_close_is_ignored"),
        (Shouting, "it_says_what_it_is"),
        (Fragile, "odd_values_do_it_no_harm"),
        (Inherited, "a_forked_child_starts_afresh"),
        (Slow, "flush_keeps_to_its_time"),
    ],
)
def test_each_fault_is_found_by_its_check(kind, check):
    (found,) = [each for each in CHECKS if each.__name__ == f"check_{check}"]
    with pytest.raises((AssertionError, UnicodeEncodeError)):
        found(kind)


def test_all_faults_are_told_at_once():
    with pytest.raises(AssertionError, match=r"(?s)2 of 12 checks failed.*after_close.*") as caught:
        check_exporter(Late)
    assert "check_what_comes_after_close_is_ignored" in str(caught.value)


def test_a_correct_exporter_passes():
    check_exporter(Correct)
