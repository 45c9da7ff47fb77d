"""Quality signals: numbers without text, only when asked for, and never other tokens."""

from __future__ import annotations

from pathlib import Path

import pytest

from engines import Recorder, tiny_engine
from smallmind_engine.runtime.quality import MEANS, REPETITION_WINDOW, RepetitionShare
from smallmind_engine.telemetry import EventKind, InferenceStopped, TokenGenerated, TokenQuality

BACKENDS = ("numpy", "numba")
REQUESTS = (
    {"temperature": 0.0},
    {"temperature": 1.0, "seed": 3, "top_k": 5},
    {"temperature": 0.7, "seed": 5, "repetition_penalty": 1.3, "logprobs": 2},
)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("options", REQUESTS)
def test_tokens_are_the_same_with_and_without_quality_signals(
    tmp_path: Path, backend: str, options: dict[str, object]
) -> None:
    wanted = {"max_tokens": 30, "ignore_eos": True, **options}
    with tiny_engine(tmp_path, backend=backend) as plain:
        expected = plain.generate("the", **wanted).token_ids
    recorder = Recorder()
    measured = {"exporters": [recorder], "quality_signals": True}
    with tiny_engine(tmp_path, backend=backend, **measured) as engine:
        assert engine.generate("the", **wanted).token_ids == expected
    assert [event.index for event in recorder.of(TokenQuality)] == list(range(30))


def test_a_greedy_choice_is_always_the_likeliest_and_agrees_with_its_logprob(
    tmp_path: Path,
) -> None:
    recorder = Recorder()
    with tiny_engine(tmp_path, exporters=[recorder], quality_signals=True) as engine:
        result = engine.generate("the", max_tokens=8, temperature=0.0, logprobs=2, ignore_eos=True)
    told = recorder.of(TokenQuality)
    assert {event.rank for event in told} == {1}
    assert [event.logprob for event in told] == pytest.approx(
        [each.logprob for each in result.logprobs or ()], abs=1e-4
    )


def test_nothing_is_measured_unless_it_is_asked_for(tmp_path: Path) -> None:
    recorder = Recorder()
    with tiny_engine(tmp_path, exporters=[recorder]) as engine:
        engine.generate("the", max_tokens=4, temperature=0.0, ignore_eos=True)
    assert recorder.of(TokenQuality) == []
    assert recorder.of(InferenceStopped)[0].quality == ()


def test_nothing_is_measured_when_nobody_would_hear_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr("smallmind_engine.runtime.quality.QualityMeter.measure", measured)
    recorder = Recorder()
    recorder.interests = int(EventKind.TOKEN_GENERATED)
    with tiny_engine(tmp_path, exporters=[recorder], quality_signals=True) as engine:
        engine.generate("the", max_tokens=4, temperature=0.0, ignore_eos=True)
    assert len(recorder.of(TokenGenerated)) == 4


def test_the_end_of_a_request_has_the_means_over_its_tokens(tmp_path: Path) -> None:
    recorder = Recorder()
    with tiny_engine(tmp_path, exporters=[recorder], quality_signals=True) as engine:
        engine.generate("the", max_tokens=12, temperature=1.0, seed=1, ignore_eos=True)
    told = recorder.of(TokenQuality)
    means = dict(recorder.of(InferenceStopped)[0].quality)
    assert tuple(means) == MEANS
    for name, mean in means.items():
        assert mean == pytest.approx(sum(getattr(event, name) for event in told) / len(told))


def test_with_detail_request_only_the_means_are_told(tmp_path: Path) -> None:
    recorder = Recorder()
    options = {"exporters": [recorder], "quality_signals": True, "detail": "request"}
    with tiny_engine(tmp_path, **options) as engine:
        engine.generate("the", max_tokens=4, temperature=0.0, ignore_eos=True)
    assert recorder.of(TokenQuality) == []
    assert len(recorder.of(InferenceStopped)[0].quality) == len(MEANS)


def test_the_repetition_share_is_of_the_last_tokens_only() -> None:
    share = RepetitionShare()
    assert [share.add(token) for token in (1, 2, 1, 1)] == [0.0, 0.0, pytest.approx(1 / 3), 0.5]
    for token in range(100, 100 + REPETITION_WINDOW):
        last = share.add(token)
    assert last == 0.0
