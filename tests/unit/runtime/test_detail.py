"""How much is told: nobody pays for operations that are not asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from engines import Recorder, tiny_engine
from smallmind import Detail
from smallmind_engine.kernels import Ceilings, ceilings
from smallmind_engine.telemetry import (
    ALL_KINDS,
    ConfigError,
    EventBus,
    EventKind,
    KernelExecuted,
    MachineMeasured,
    TokenGenerated,
)

OPTIONS = {"seed": 3, "temperature": 1.0, "max_tokens": 12, "ignore_eos": True}


@pytest.fixture(autouse=True)
def known_ceilings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine is not measured in these tests."""
    fixed = Ceilings(2, 1e9, 2e9, None)
    monkeypatch.setattr(
        ceilings.MeasuredCeilings, "get", lambda self, what, threads, measure: fixed
    )


@pytest.fixture(params=["numpy", "numba"])
def backend(request: pytest.FixtureRequest) -> str:
    if request.param == "numba":
        pytest.importorskip("numba")
    return str(request.param)


def test_operations_are_told_with_kernel_detail(tmp_path: Path, backend: str) -> None:
    recorder = Recorder()
    options = {"exporters": [recorder], "detail": "kernel", "backend": backend}
    with tiny_engine(tmp_path, **options) as engine:
        result = engine.generate("the", **OPTIONS)
    told = recorder.of(KernelExecuted)
    steps = 1 + result.timings.decode_steps
    assert len([e for e in told if e.op == "output"]) == steps
    assert {e.layer for e in told} == {-1, 0, 1}
    assert {e.correlation for e in told} == {result.correlation}
    assert {(e.model, e.backend) for e in told} == {("tiny", backend)}
    (machine,) = recorder.of(MachineMeasured)
    assert (machine.backend, machine.read_bytes_per_second) == (backend, 1e9)
    numbers = [event.sequence for event in recorder.events]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert [e.sequence for e in recorder.of(TokenGenerated)] == sorted(
        e.sequence for e in recorder.of(TokenGenerated)
    )


@pytest.mark.parametrize("detail", ["request", "token"])
def test_no_operation_is_built_or_timed_with_less_detail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, detail: str
) -> None:
    monkeypatch.setattr(KernelExecuted, "__new__", None)
    monkeypatch.setattr(MachineMeasured, "__new__", None)
    recorder = Recorder()
    with tiny_engine(tmp_path, exporters=[recorder], detail=detail, backend="numpy") as engine:
        before = EventBus().emitter().header()[0]
        asked: list[object] = []
        forward = engine.model.runner.forward

        def spying(*args: object, **kwargs: object) -> object:
            asked.append(kwargs["on_operations"])
            return forward(*args, **kwargs)  # type: ignore[arg-type]

        monkeypatch.setattr(type(engine.model.runner), "forward", staticmethod(spying))
        count = len(recorder.events)
        engine.generate("the", **OPTIONS)
        spent = EventBus().emitter().header()[0] - before - 1
        told = len(recorder.events) - count
    assert set(asked) == {None}
    assert spent == told


def test_kernel_detail_without_a_listener_times_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(KernelExecuted, "__new__", None)
    deaf = Recorder()
    deaf.interests = ALL_KINDS & ~(EventKind.KERNEL_EXECUTED | EventKind.MACHINE_MEASURED)
    options = {"exporters": [deaf], "detail": Detail.KERNEL, "backend": "numpy"}
    with tiny_engine(tmp_path, **options) as engine:
        engine.generate("the", **OPTIONS)
    assert not deaf.of(MachineMeasured)


def test_tokens_are_the_same_with_every_detail(tmp_path: Path, backend: str) -> None:
    found = set()
    for detail in Detail:
        for exporters in ([], [Recorder()]):
            options = {"exporters": exporters, "detail": detail, "backend": backend}
            with tiny_engine(tmp_path, **options) as engine:
                found.add(engine.generate("the", **OPTIONS).token_ids)
                greedy = {**OPTIONS, "temperature": 0.0}
                found.add((0, *engine.generate("the", **greedy).token_ids))
    assert len(found) == 2


def test_request_detail_leaves_out_tokens_only(tmp_path: Path) -> None:
    kinds = {}
    for detail in (Detail.REQUEST, Detail.TOKEN):
        recorder = Recorder()
        with tiny_engine(tmp_path, exporters=[recorder], detail=detail) as engine:
            engine.generate("the", **OPTIONS)
        # A busy machine may hold a step up at any moment, which is told whatever the detail.
        kinds[detail] = {event.kind for event in recorder.events} - {EventKind.RUNTIME_STALL}
    assert kinds[Detail.TOKEN] - kinds[Detail.REQUEST] == {EventKind.TOKEN_GENERATED}


def test_the_time_of_telling_is_booked_as_telemetry(tmp_path: Path) -> None:
    options = {"exporters": [Recorder()], "detail": "kernel", "backend": "numpy"}
    with tiny_engine(tmp_path, **options) as engine:
        timings = engine.generate("the", **OPTIONS).timings
    assert timings.ledger["telemetry"] > 0


def test_an_unknown_detail_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="one of request, token, kernel"):
        tiny_engine(tmp_path, detail="everything")
