"""Holding the cycle collector off."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import pytest

from smallmind_engine.control import CollectorPause


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    enabled = gc.isenabled()
    yield
    (gc.enable if enabled else gc.disable)()


def test_nothing_is_collected_within() -> None:
    gc.enable()
    with CollectorPause():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_pauses_may_overlap() -> None:
    gc.enable()
    pause = CollectorPause()
    with pause:
        with pause:
            pass
        assert not gc.isenabled()
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    with CollectorPause():
        pass
    assert not gc.isenabled()


def test_it_collects_again_after_an_error() -> None:
    gc.enable()
    with pytest.raises(ValueError, match="within"), CollectorPause():
        raise ValueError("within")
    assert gc.isenabled()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_forked_within_collects() -> None:
    gc.enable()
    with CollectorPause() as _:
        child = os.fork()
        if child == 0:
            os._exit(0 if gc.isenabled() else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
