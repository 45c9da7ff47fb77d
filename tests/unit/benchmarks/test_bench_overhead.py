"""What the figures of telemetry's cost are made of."""

from __future__ import annotations

import random
import threading
import time

import pytest
import requests
from paired_ratios import OK, TOO_MUCH, UNDECIDED, Estimate, estimate, verdict
from thread_times import spent, thread_times

from otlp_receiver_process import receiver_process


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(-0.01, 0.02, OK), (0.01, 0.03, UNDECIDED), (0.021, 0.03, TOO_MUCH), (-0.5, 0.5, UNDECIDED)],
)
def test_a_limit_is_judged_only_when_the_whole_interval_is_on_one_side(
    low: float, high: float, expected: str
) -> None:
    assert verdict(Estimate((low + high) / 2, low, high, 9), 0.02) == expected


def test_the_interval_holds_the_true_median_as_often_as_it_says() -> None:
    dice = random.Random(3)  # noqa: S311 - repeatable
    held = 0
    for _ in range(60):
        found = estimate([dice.gauss(0.01, 0.05) for _ in range(25)])
        held += found.low <= 0.01 <= found.high
    assert held >= 52  # 95 % of 60 are 57


def test_one_run_that_went_astray_moves_neither_median_nor_interval_far() -> None:
    calm = [0.01 + number * 1e-4 for number in range(25)]
    found = estimate([*calm[:-1], 40.0])
    assert found.value == estimate(calm).value
    assert found.high < 0.02


def test_processor_time_is_told_by_the_name_of_the_thread() -> None:
    end = threading.Event()

    def work() -> None:
        while time.thread_time() < 0.02:
            pass
        end.wait(30.0)

    worker = threading.Thread(target=work, name="busy")
    before = thread_times()
    worker.start()
    while (taken := spent(before, thread_times())["busy"]) < 20_000_000:
        time.sleep(0.001)
    end.set()
    worker.join()
    assert taken < 10_000_000_000


def test_the_receiver_is_another_process_that_ends_with_the_block() -> None:
    with receiver_process() as endpoint:
        assert requests.post(f"{endpoint}/v1/traces", data=b"", timeout=10).ok
    with pytest.raises(requests.ConnectionError):
        requests.post(f"{endpoint}/v1/traces", data=b"", timeout=10)
