"""The promises of docs/concurrency.md, one test each; some have files of their own besides."""

from __future__ import annotations

import ast
import inspect
import re
import statistics
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import smallmind
from engines import Recorder, tiny_engine
from smallmind import CancellationToken, Engine, GenerationOptions, StopReason, chat
from smallmind_engine import telemetry
from smallmind_engine.memory import MemoryCategory
from smallmind_engine.telemetry import InferenceStopped

ROOT = Path(__file__).parents[2]
GREEDY = {"temperature": 0.0, "ignore_eos": True, "max_tokens": 8}
CALLERS = 16


def conversation(engine: Engine, number: int) -> tuple[tuple[int, ...], ...]:
    """Two turns of a session and one of a chat, of which no two numbers have the same."""
    with engine.session(f"session-{number}") as session, engine.chat() as chat:
        turns = [session.generate([5, 6 + number], **GREEDY), session.generate([9], **GREEDY)]
        turns.append(chat.send("the " * number, **GREEDY))
    return tuple(turn.token_ids for turn in turns)


def test_sessions_may_be_made_and_used_by_many_threads_at_once(engine: Engine) -> None:
    """Promises 1 and 4: one engine for all, and none of them notices the others."""
    alone = [conversation(engine, number) for number in range(CALLERS)]
    start = threading.Barrier(CALLERS)

    def at_once(number: int) -> tuple[tuple[int, ...], ...]:
        start.wait(30)
        return conversation(engine, number)

    with ThreadPoolExecutor(CALLERS) as pool:
        assert list(pool.map(at_once, range(CALLERS))) == alone


def test_weights_exist_once_however_many_sessions_there_are(engine: Engine, tmp_path: Path) -> None:
    """Promise 2; the file is as it was, too."""

    def taken() -> dict[MemoryCategory, int]:
        once = (MemoryCategory.WEIGHTS, MemoryCategory.TOKENIZER)
        return {u.category: u.current_bytes for u in engine.memory if u.category in once}

    before, content = taken(), (tmp_path / "tiny.gguf").read_bytes()
    sessions = [engine.session() for _ in range(50)]
    for session in sessions:
        session.generate([5], **{**GREEDY, "max_tokens": 1})
    assert taken() == before
    assert before[MemoryCategory.WEIGHTS] > 0
    assert (tmp_path / "tiny.gguf").read_bytes() == content


def test_the_id_of_a_session_is_on_all_its_events_and_no_others(
    engine: Engine, recorder: Recorder
) -> None:
    """Promise 5, with as many sessions at once as there are callers."""
    with ThreadPoolExecutor(CALLERS) as pool:
        list(pool.map(lambda number: conversation(engine, number), range(CALLERS)))
    by_request: dict[str, set[str | None]] = {}
    for event in recorder.events:
        by_request.setdefault(event.correlation.request_id, set()).add(event.correlation.session_id)
    stops = recorder.of(InferenceStopped)
    assert len(stops) == 3 * CALLERS
    for stop in stops:
        assert by_request[stop.correlation.request_id] == {stop.correlation.session_id}
    turns = Counter(stop.correlation.session_id for stop in stops)
    assert [turns[f"session-{number}"] for number in range(CALLERS)] == [2] * CALLERS


def test_every_long_call_can_be_cancelled(engine: Engine) -> None:
    """Promise 6: loading, all ways to generate, and what callbacks do."""
    assert "cancellation" in inspect.signature(smallmind.load).parameters
    assert "cancellation" in inspect.signature(GenerationOptions).parameters
    token = CancellationToken()

    def on_token(chunk: object) -> None:
        token.cancel()

    result = engine.generate("the", on_token=on_token, cancellation=token, **GREEDY)
    assert (result.stop_reason, len(result.token_ids)) == (StopReason.CANCELLED_BY_CALLER, 1)


def test_a_session_costs_nothing_to_make(engine: Engine) -> None:
    """Promise 7, first half: less than a millisecond, and no memory before its first turn."""
    seconds = []
    for _ in range(200):
        begin = time.perf_counter()
        engine.session()
        seconds.append(time.perf_counter() - begin)
    assert statistics.median(seconds) < 0.001
    assert engine.stats().kv_blocks_rented == 0


def test_the_caches_of_all_sessions_together_keep_to_their_bound(tmp_path: Path) -> None:
    """Promise 7, second half: the bound is the engine's, not each session's."""
    blocks, most = 10, 0
    with (
        tiny_engine(tmp_path, max_kv_tokens=64 * blocks) as engine,
        ThreadPoolExecutor(CALLERS) as pool,
    ):
        sessions = [engine.session() for _ in range(CALLERS)]
        for turn in range(3):
            jobs = [
                pool.submit(session.generate, [5 + i, 6 + turn] * 20, **GREEDY)
                for i, session in enumerate(sessions)
            ]
            while not all(job.done() for job in jobs):
                most = max(most, engine.stats().kv_blocks_used)
            assert {job.result().stop_reason for job in jobs} == {StopReason.MAX_TOKENS}
        most = max(most, engine.stats().kv_blocks_used)
    assert 0 < most <= blocks


@pytest.mark.parametrize("first", ["session", "engine"])
def test_sessions_and_engines_may_be_closed_in_any_order(tmp_path: Path, first: str) -> None:
    """Promise 8, and more than it asks: two engines at once do not disturb each other either."""
    with tiny_engine(tmp_path) as other:
        expected = other.generate("the", **GREEDY).token_ids
        engine = tiny_engine(tmp_path)
        session = engine.session()
        assert session.generate("the", **GREEDY).token_ids == expected
        for each in (session, engine) if first == "session" else (engine, session):
            each.close()
        assert engine.stats().kv_blocks_used == 0
        assert not any(usage.current_bytes for usage in engine.memory)
        assert other.generate("the", **GREEDY).token_ids == expected


def test_every_test_that_the_page_names_exists() -> None:
    page = (ROOT / "docs" / "concurrency.md").read_text(encoding="utf-8")
    named = re.findall(r"\[`(test_\w+)`\]\(\.\./(tests/[\w/]+\.py)\)", page)
    assert len(named) >= 8
    for name, file in named:
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert name in names, f"{file} has no {name}"


SHARED = [
    smallmind.Engine,
    smallmind.CancellationToken,
    chat.InMemoryChatStore,
    chat.SQLiteChatStore,
    telemetry.EventBus,
    telemetry.QueuedExporter,
    telemetry.StdlibLoggingExporter,
    telemetry.MetricsExporter,
    telemetry.InMemoryRuntimeMetrics,
    telemetry.ConsoleRuntimeLogger,
    *(point.load() for point in entry_points(group="smallmind.exporters")),
]
NOT_SHARED = [smallmind.Session, smallmind.ChatClient, smallmind.TokenStream]


@pytest.mark.parametrize("kind", SHARED + NOT_SHARED)
def test_docstrings_say_whether_threads_may_share(kind: type) -> None:
    said = re.search(r"(Not t|T)hread-safe", kind.__doc__ or "")
    assert said, kind
    assert (said[1] == "T") == (kind in SHARED)
