"""A fork comes in between two rounds of a thread that never rests."""

from __future__ import annotations

import itertools
import threading

import pytest

from smallmind_engine.runtime.fork_pause import ForkPause


@pytest.fixture
def restless():
    """A pause, and what its thread does in endless rounds."""
    pause, inside, ending = ForkPause(), [False], threading.Event()
    rounds = itertools.count()

    def work() -> None:
        while not ending.is_set():
            try:
                with pause:
                    inside[0] = True
                    next(rounds)
                    sum(range(5000))
                    inside[0] = False
            except TypeError:  # the lock that a test has put there for a moment
                continue

    thread = threading.Thread(target=work)
    thread.start()
    yield pause, inside, rounds
    ending.set()
    thread.join()


def test_a_thread_without_rest_is_halted_between_rounds_and_goes_on(restless):
    pause, inside, rounds = restless
    for _ in range(20):
        pause.before_fork()
        assert pause.was_halted
        assert not inside[0]
        before = next(rounds)
        pause.after_fork_in_parent()
        while next(rounds) < before + 3:
            threading.Event().wait(0.001)


def test_the_thread_itself_may_fork_in_a_round():
    pause = ForkPause()
    with pause:
        pause.before_fork()
        assert pause.was_halted
        pause.after_fork_in_parent()
        with pause:
            pass


def test_a_round_without_end_is_not_waited_for_for_ever(monkeypatch):
    monkeypatch.setattr("smallmind_engine.runtime.fork_pause._TIMEOUT_S", 0.01)
    pause, entered, ending = ForkPause(), threading.Event(), threading.Event()

    def work() -> None:
        with pause:
            entered.set()
            ending.wait(10.0)

    thread = threading.Thread(target=work)
    thread.start()
    entered.wait(10.0)
    pause.before_fork()
    assert not pause.was_halted
    pause.after_fork_in_parent()
    ending.set()
    thread.join()
    with pause:
        pass


def test_who_is_interrupted_while_it_waits_leaves_no_pause_behind(restless, monkeypatch):
    class Interrupted:
        def acquire(self, timeout: float) -> bool:
            raise KeyboardInterrupt  # in the thread that forks; the other one gives no timeout

    pause, _, rounds = restless
    pause.before_fork()
    pause.after_fork_in_parent()
    lock = pause._lock
    monkeypatch.setattr(pause, "_lock", Interrupted())
    with pytest.raises(KeyboardInterrupt):
        pause.before_fork()
    monkeypatch.setattr(pause, "_lock", lock)
    assert not pause.was_halted
    before = next(rounds)
    while next(rounds) < before + 3:
        threading.Event().wait(0.001)


def test_a_child_that_was_forked_in_a_round_ends_it_and_begins_another():
    pause = ForkPause()
    with pause:
        pause.begin_in_child()
    with pause:
        pass
