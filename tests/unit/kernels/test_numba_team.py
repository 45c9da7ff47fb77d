"""Threads that run compiled code together: barriers, counters, and the team that owns them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("numba")

from numba import cfunc, njit, types

from child_programs import output_of
from compiled_kernels import address, zeros
from smallmind_engine.kernels.numba_backend.compile_cache import compile_kernels
from smallmind_engine.kernels.numba_backend.emit.step_arrays import ints_1
from smallmind_engine.kernels.numba_backend.emit.sync_ir import atomic_add, wait_for_all
from smallmind_engine.kernels.numba_backend.isa import choose_tier
from smallmind_engine.kernels.numba_backend.kernel_names import LEAD, SERVE
from smallmind_engine.kernels.numba_backend.kernel_table import team_sources
from smallmind_engine.kernels.numba_backend.records import BARRIER_WORDS, LINE_WORDS, Mail
from smallmind_engine.kernels.numba_backend.team import Team
from tiny_models import write_tiny_model

Words = npt.NDArray[np.int64]

LINE = 8

kernels = compile_kernels(team_sources(), tier=choose_tier())[0]
TEAM = (kernels[LEAD], kernels[SERVE])
lead, serve = kernels[LEAD].call, kernels[SERVE].call


@njit(nogil=True)
def write_and_look(
    member: int, threads: int, rounds: int, barrier: int, slots: Any, unseen: Any
) -> None:
    """In each round all write, and all look whether they see what the others wrote."""
    for turn in range(1, rounds + 1):
        slots[member * LINE] = turn
        wait_for_all(barrier, threads)
        for other in range(threads):
            if slots[other * LINE] != turn:
                unseen[member] += 1
        wait_for_all(barrier, threads)


@njit(nogil=True)
def take_numbers(member: int, threads: int, barrier: int, counter: int, taken: Any) -> None:
    """Hand out numbers until there are none left."""
    while True:
        number = atomic_add(counter, 1)
        if number >= len(taken):
            break
        taken[number] += member + 1
    wait_for_all(barrier, threads)


@cfunc(types.void(types.int64, types.int64))
def work_of_a_group(member: int, record: int) -> None:
    """Rounds on the arrays of a ``Group``."""
    numbers = ints_1(record)
    slots, unseen = ints_1(record + 16), ints_1(record + 32)
    write_and_look(member, numbers[0], numbers[1], numbers[2], slots, unseen)


class Group:
    """Arrays that a team's work is done on, and that work."""

    address = work_of_a_group.address
    call = staticmethod(work_of_a_group.ctypes)

    def __init__(self, threads: int, rounds: int = 10) -> None:
        self.threads = threads
        self.rounds = rounds
        self.barrier: Words = zeros(BARRIER_WORDS, np.int64)
        self.slots: Words = zeros(threads * LINE, np.int64)
        self.unseen: Words = zeros(threads, np.int64)

        self._numbers: Words = np.array([threads, rounds, address(self.barrier)], np.int64)
        arrays = (self._numbers, self.slots, self.unseen)
        table = [word for array in arrays for word in (address(array), len(array))]
        self._record: Words = np.array(table, np.int64)

    @property
    def record(self) -> int:
        """What the compiled function finds them by."""
        return address(self._record)

    def work(self, member: int) -> None:
        self.call(member, self.record)

    def done_by(self, team: Team) -> bool:
        """Let a team do it; whether all members came."""
        team.run(self, self.record)
        return self.all_came()

    def all_came(self) -> bool:
        """Whether all members did their work and saw that of all others."""
        came = (self.slots[::LINE] == self.rounds).all() and not self.unseen.any()
        self.slots[...] = 0
        return bool(came)


@pytest.fixture(scope="module", autouse=True)
def _compiled() -> None:
    """Compile before threads wait for each other."""
    group = Group(1)
    group.work(0)
    take_numbers(0, 1, address(group.barrier), address(zeros(1, np.int64)), zeros(1, np.int64))


@pytest.fixture
def team() -> Iterator[Team]:
    made = Team(3, *TEAM)
    yield made
    made.close()


# -- barriers and counters ----------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2, 3, 4])
def test_all_threads_see_what_all_others_wrote_before_a_barrier(threads: int) -> None:
    """More threads than cores make some of them wait for their time slice."""
    group = Group(threads, rounds=200)
    running = [threading.Thread(target=group.work, args=(member,)) for member in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(60)
    assert group.all_came()
    assert group.barrier[0] == 0


def test_each_number_is_handed_out_once() -> None:
    threads = 4
    group, counter, taken = Group(threads), zeros(1, np.int64), zeros(20_000, np.int64)

    def work(member: int) -> None:
        take_numbers(member, threads, address(group.barrier), address(counter), taken)

    running = [threading.Thread(target=work, args=(member,)) for member in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(60)
    assert counter[0] == len(taken) + threads
    assert set(taken.tolist()) <= {1, 2, 3, 4}


def test_a_counter_answers_with_what_it_was() -> None:
    counter = zeros(1, np.int64)

    @njit
    def add(where: int, value: int) -> int:
        return atomic_add(where, value)

    assert [add(address(counter), 5), add(address(counter), -2)] == [0, 5]
    assert counter[0] == 3


def mailbox(calls: int, function: int, argument: int = 0) -> Words:
    """Of a team of one."""
    words: Words = zeros(Mail.SEEN + LINE_WORDS, np.int64)
    words[Mail.CALLS], words[Mail.FUNCTION], words[Mail.ARGUMENT] = calls, function, argument
    return words


def test_a_member_does_the_call_that_it_has_not_seen_and_gives_up_waiting_for_more() -> None:
    group = Group(1)
    words = mailbox(1, group.address, group.record)
    assert serve(address(words), 0) == 1
    assert words[Mail.SEEN] == 1
    assert group.all_came()


def test_a_member_does_nothing_without_a_new_call() -> None:
    words = mailbox(4, Group.address, 0)
    words[Mail.SEEN] = 4
    assert serve(address(words), 0) == 1


def test_a_member_ends_when_there_is_no_function() -> None:
    assert serve(address(mailbox(1, 0)), 0) == 0


def test_the_leader_tells_the_members_and_does_its_own_part() -> None:
    group = Group(1)
    words = mailbox(4, group.address, group.record)
    lead(address(words), 0)
    assert words[Mail.CALLS] == 5
    assert group.all_came()


# -- the team -----------------------------------------------------------------------------------


@pytest.fixture
def started() -> Callable[[], set[str]]:
    """Names of the threads that run now and did not before; other tests may have left some."""
    before = set(threading.enumerate())
    return lambda: {thread.name for thread in set(threading.enumerate()) - before}


def wait_until_asleep(team: Team) -> None:
    deadline = time.monotonic() + 30
    while not (team._roster and sum(m.asleep for m in team._roster.members.values()) == 2):
        assert time.monotonic() < deadline
        time.sleep(0)


def test_work_is_done_by_all_members_once(team: Team) -> None:
    group = Group(3)
    assert group.done_by(team)


def test_a_team_does_one_work_after_the_other(team: Team, started: Callable[[], set[str]]) -> None:
    group = Group(3)
    for _ in range(20):
        assert group.done_by(team)
    assert len(started()) == 2


def test_members_that_fell_asleep_are_woken(team: Team) -> None:
    group = Group(3)
    for _ in range(5):
        team.run(group, group.record)
        wait_until_asleep(team)
        assert group.all_came()
    assert group.done_by(team)


def test_a_team_of_one_is_the_caller(started: Callable[[], set[str]]) -> None:
    team, group = Team(1, *TEAM), Group(1)
    team.run(group, group.record)
    team.close()
    assert group.all_came()
    assert started() == set()


def test_threads_start_with_the_first_work_and_end_with_close(
    started: Callable[[], set[str]],
) -> None:
    team, group = Team(3, *TEAM), Group(3)
    assert started() == set()
    team.run(group, group.record)
    assert started() == {"smallmind-kernels-1", "smallmind-kernels-2"}
    team.close()
    assert started() == set()


def test_sleeping_members_end_with_close_too(team: Team, started: Callable[[], set[str]]) -> None:
    assert Group(3).done_by(team)
    wait_until_asleep(team)
    team.close()
    assert started() == set()


def test_a_closed_team_begins_anew(team: Team) -> None:
    group = Group(3)
    for _ in range(5):
        assert group.done_by(team)
        team.close()
        team.close()


def test_closing_a_team_that_never_worked_does_nothing() -> None:
    Team(3, *TEAM).close()


def test_callers_may_take_turns(team: Team) -> None:
    turn, came = threading.Lock(), []

    def call() -> None:
        group = Group(3)
        for _ in range(20):
            with turn:
                team.run(group, group.record)
            came.append(group.all_came())

    callers = [threading.Thread(target=call) for _ in range(3)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert came == [True] * 60


def test_two_teams_work_at_the_same_time() -> None:
    teams, groups = [Team(2, *TEAM), Team(2, *TEAM)], [Group(2), Group(2)]

    def call(index: int) -> None:
        for _ in range(20):
            teams[index].run(groups[index], groups[index].record)

    callers = [threading.Thread(target=call, args=(index,)) for index in range(2)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    for one, group in zip(teams, groups, strict=True):
        one.close()
        assert group.all_came()


def test_a_closed_team_lets_go_of_its_work(team: Team) -> None:
    """What a step refers to, such as weights, must not stay in memory for the threads' sake."""
    group = Group(3)
    team.run(group, group.record)
    seen = weakref.ref(group)
    wait_until_asleep(team)
    team.close()
    del group
    assert seen() is None


_INTERRUPTED = """
import random
import signal

from test_numba_team import TEAM, Group, Team

def interrupt(*_):
    raise KeyboardInterrupt

signal.signal(signal.SIGALRM, interrupt)
team, group, dice = Team(3, *TEAM), Group(3), random.Random(1)
interrupted = 0
while interrupted < 300:
    try:
        signal.setitimer(signal.ITIMER_REAL, dice.uniform(1e-6, 3e-4))
        for _ in range(1000):
            team.run(group, group.record)
            if dice.random() < 0.1:
                team.close()
    except KeyboardInterrupt:
        interrupted += 1
        group.slots[...] = 0
signal.setitimer(signal.ITIMER_REAL, 0)
group.slots[...] = 0
assert group.done_by(team)
team.close()
print("all came")
"""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer that interrupts")
def test_work_that_is_interrupted_anywhere_leaves_a_team_that_works() -> None:
    """Members that were told, and whose leader did not come, would wait for it for ever."""
    assert "all came" in output_of(_INTERRUPTED, __file__, timeout_s=60)


@pytest.mark.parametrize("start", [lambda _: None, threading.Thread.start])
def test_another_thread_is_started_where_it_is_unknown_whether_one_runs(
    team: Team, start: Callable[[threading.Thread], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    group = Group(3)

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        raise KeyboardInterrupt

    for _ in range(20):
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", interrupted)
            with pytest.raises(KeyboardInterrupt):
                team.run(group, group.record)
        assert group.done_by(team)
        assert group.done_by(team)
        team.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_a_team_of_its_own(team: Team) -> None:
    group = Group(3)
    assert group.done_by(team)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            team.run(group, group.record)
            code = 0 if group.all_came() else 2
            team.close()
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert group.done_by(team)


_LEFT_WAITING = """
import os
import smallmind

engine = smallmind.load({model!r}, backend="numba", threads=2, exporters=())
os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}})  # so that members wait for long
engine.embed(["a cat"])
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs cores to choose from")
def test_a_process_may_exit_while_members_wait_for_the_next_call(tmp_path: Path) -> None:
    """Their code is in memory that Python lets go of at the end, unless they hold on to it."""
    model = write_tiny_model(tmp_path / "tiny.gguf")
    program = _LEFT_WAITING.format(model=str(model))
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
