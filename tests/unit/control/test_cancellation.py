"""Tokens, links and deadlines."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest

from smallmind_engine.control import NO_LIMIT, CancellationToken, WorkLimit
from smallmind_engine.telemetry.errors import OperationCancelledError
from smallmind_engine.telemetry.reasons import ReasonCode


def test_a_token_is_cancelled_once_and_for_good() -> None:
    token = CancellationToken()
    assert not token.is_cancelled
    token.cancel()
    token.cancel()
    assert token.is_cancelled


def test_callbacks_run_once_and_late_ones_at_once() -> None:
    token = CancellationToken()
    calls: list[str] = []
    token.on_cancel(lambda: calls.append("early"))
    take_back = token.on_cancel(lambda: calls.append("taken back"))
    take_back()
    take_back()
    token.cancel()
    token.cancel()
    token.on_cancel(lambda: calls.append("late"))()
    assert calls == ["early", "late"]


def test_a_child_is_cancelled_with_any_parent_but_not_the_other_way() -> None:
    first, second = CancellationToken(), CancellationToken()
    child = CancellationToken(first, second)
    sibling = CancellationToken(first)
    child.cancel()
    assert not first.is_cancelled
    assert not sibling.is_cancelled
    second.cancel()
    first.cancel()
    assert sibling.is_cancelled


def test_a_child_of_a_cancelled_parent_is_born_cancelled() -> None:
    parent = CancellationToken()
    parent.cancel()
    assert CancellationToken(parent).is_cancelled


def test_a_closed_child_is_not_kept_alive_by_its_parent() -> None:
    class Owner:
        pass

    parent, owner = CancellationToken(), Owner()
    ref = weakref.ref(owner)
    with CancellationToken(parent) as child:
        child.on_cancel(lambda owner=owner: None)
    del child, owner
    gc.collect()
    assert ref() is None
    parent.cancel()


def test_cancelling_from_another_thread_wakes_a_waiter() -> None:
    token, woken = CancellationToken(), threading.Event()
    token.on_cancel(woken.set)
    threading.Thread(target=token.cancel).start()
    assert woken.wait(5)


def test_no_limit_never_stops_work() -> None:
    NO_LIMIT.check("anything")
    assert NO_LIMIT.exceeded is None
    assert NO_LIMIT.remaining_s is None


def test_a_deadline_passes_by_the_clock_it_was_given() -> None:
    now = 10.0
    limit = WorkLimit.within(5.0, clock=lambda: now)
    assert limit.exceeded is None
    assert limit.remaining_s == 5.0
    now = 15.0
    assert limit.exceeded is ReasonCode.CANCELLED_BY_TIMEOUT
    assert limit.remaining_s == 0.0
    with pytest.raises(OperationCancelledError, match="baking") as caught:
        limit.check("baking")
    assert caught.value.details["work"] == "baking"


def test_cancellation_wins_over_a_deadline() -> None:
    token = CancellationToken()
    token.cancel()
    assert WorkLimit.within(1e-9, token).exceeded is ReasonCode.CANCELLED_BY_CALLER
