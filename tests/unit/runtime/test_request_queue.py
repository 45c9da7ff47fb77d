"""The queue: the most urgent first, and nobody waits for ever."""

from __future__ import annotations

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from smallmind_engine.runtime.request_queue import AGING_NS, RequestQueue


def work(number: int, priority: int, submitted_ns: int) -> SimpleNamespace:
    """As much of a request as the queue looks at."""
    options = SimpleNamespace(priority=priority)
    return SimpleNamespace(
        number=number, submitted_ns=submitted_ns, request=SimpleNamespace(options=options)
    )


def order(waiting: list[SimpleNamespace]) -> list[int]:
    queue = RequestQueue()
    for each in waiting:
        queue.add(each)  # type: ignore[arg-type]
    assert len(queue) == len(waiting)
    numbers = []
    while (first := queue.first()) is not None:
        queue.remove(first)
        numbers.append(first.number)  # type: ignore[attr-defined]
    return numbers


@given(st.lists(st.integers(-10, 10), max_size=30))
def test_equals_keep_the_order_of_arrival(priorities: list[int]) -> None:
    ordered = order([work(n, priority, n) for n, priority in enumerate(priorities)])
    for priority in set(priorities):
        mine = [n for n in ordered if priorities[n] == priority]
        assert mine == sorted(mine)


@given(st.integers(-10, 9), st.integers(1, 20))
def test_a_second_of_waiting_is_worth_a_step_of_priority(low: int, steps: int) -> None:
    high = min(low + steps, 10)
    earlier = work(0, low, 0)
    just_later = work(1, high, (high - low) * AGING_NS - 1)
    too_late = work(2, high, (high - low) * AGING_NS)
    assert order([earlier, just_later]) == [1, 0]
    assert order([earlier, too_late]) == [0, 2]


def test_nobody_waits_longer_than_the_span_of_priorities() -> None:
    """However many urgent requests keep coming, one of the lowest goes within 20 seconds."""
    patient = work(-1, -10, 0)
    urgent = [work(n, 10, n * AGING_NS // 10) for n in range(400)]
    place = order([patient, *urgent]).index(-1)
    assert urgent[place - 1].submitted_ns <= 20 * AGING_NS


def test_who_leaves_is_not_there_any_more() -> None:
    queue = RequestQueue()
    first, second = work(0, 0, 0), work(1, 5, 1)
    queue.add(first)  # type: ignore[arg-type]
    queue.add(second)  # type: ignore[arg-type]
    queue.remove(second)  # type: ignore[arg-type]
    assert list(queue) == [first]
    queue.remove(first)  # type: ignore[arg-type]
    assert (len(queue), queue.first()) == (0, None)
