"""Ctrl-C: the first one asks the work to stop, the second one insists."""

from __future__ import annotations

import signal
import threading

import pytest

from smallmind._cli.interrupts import interruptible

TIMEOUT_S = 10.0


def pressed_once(token) -> None:
    done = threading.Event()
    token.on_cancel(done.set)
    signal.raise_signal(signal.SIGINT)
    assert done.wait(TIMEOUT_S)


def test_the_first_signal_cancels_the_token():
    with interruptible() as token:
        assert not token.is_cancelled
        pressed_once(token)
        assert token.is_cancelled


def test_the_second_signal_interrupts():
    with interruptible() as token:
        pressed_once(token)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_signal_in_the_middle_of_the_tokens_own_work_does_not_hang():
    with interruptible() as token:
        done = threading.Event()
        token.on_cancel(done.set)
        with token._lock:  # as when the signal comes while a request is being linked to the token
            signal.raise_signal(signal.SIGINT)
        assert done.wait(TIMEOUT_S)


def test_the_handler_before_is_put_back():
    before = signal.getsignal(signal.SIGINT)
    with interruptible():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


def test_no_thread_stays_behind():
    with interruptible():
        pass
    assert "smallmind-interrupt" not in {thread.name for thread in threading.enumerate()}


def test_another_thread_gets_a_token_that_no_signal_reaches():
    tokens = []

    def work() -> None:
        with interruptible() as token:
            tokens.append(token)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(TIMEOUT_S)
    assert not tokens[0].is_cancelled
