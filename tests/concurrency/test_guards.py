"""What belongs to one thread at a time says so at every door, and names both threads."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from engines import tiny_engine
from smallmind import ChatClient, Engine, Session, TokenStream
from smallmind_engine.control import SingleUseGuard
from smallmind_engine.telemetry.errors import ConcurrentSessionUseError

GREEDY = {"temperature": 0.0, "ignore_eos": True, "max_tokens": 30}


async def first(chunks: AsyncIterator[object]) -> None:
    async for _ in chunks:
        return


def awaited(make: Callable[[], Awaitable[object]]) -> None:
    async def main() -> None:
        await make()

    asyncio.run(main())


SESSION: dict[str, Callable[[Session], object]] = {
    "generate": lambda s: s.generate([5]),
    "stream": lambda s: s.stream([5]),
    "agenerate": lambda s: awaited(lambda: s.agenerate([5])),
    "astream": lambda s: awaited(lambda: first(s.astream([5]))),
    "fork": lambda s: s.fork(),
    "reset": lambda s: s.reset(),
    "close": lambda s: s.close(),
    "__exit__": lambda s: s.__exit__(None, None, None),
}
CHAT: dict[str, Callable[[ChatClient], object]] = {
    "send": lambda c: c.send("the"),
    "stream": lambda c: c.stream("the"),
    "asend": lambda c: awaited(lambda: c.asend("the")),
    "astream": lambda c: awaited(lambda: first(c.astream("the"))),
    "regenerate": lambda c: c.regenerate(),
    "edit": lambda c: c.edit(0, "and"),
    "said": lambda c: c.said(0),
    "undo": lambda c: c.undo(),
    "clear": lambda c: c.clear(),
    "render": lambda c: c.render(),
    "send_tool_results": lambda c: c.send_tool_results([]),
    "asend_tool_results": lambda c: awaited(lambda: c.asend_tool_results([])),
    "run_tools": lambda c: c.run_tools("the"),
    "arun_tools": lambda c: awaited(lambda: c.arun_tools("the")),
    "fork": lambda c: c.fork(),
    "save": lambda c: c.save(),
    "close": lambda c: c.close(),
    "__exit__": lambda c: c.__exit__(None, None, None),
    "system": lambda c: setattr(c, "system", "Be brief."),
}
STREAM: dict[str, Callable[[TokenStream], object]] = {
    "__next__": next,
    "close": lambda s: s.close(),
    "__exit__": lambda s: s.__exit__(None, None, None),
}
UNGUARDED = {"__enter__", "__init__", "__iter__", "__del__", "new_run"}
"""They do nothing to what is inside; a run that ``new_run`` made is run by who holds the guard."""


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with tiny_engine(tmp_path_factory.mktemp("guards")) as engine:
        yield engine


def refused(call: Callable[[], object]) -> ConcurrentSessionUseError:
    """What another thread gets."""
    with (
        ThreadPoolExecutor(1, thread_name_prefix="intruder") as pool,
        pytest.raises(ConcurrentSessionUseError) as caught,
    ):
        pool.submit(call).result(30)
    return caught.value


def check(error: ConcurrentSessionUseError, name: str) -> None:
    here = threading.current_thread().name
    assert error.details["owner"] == here
    assert error.details["intruder"].startswith("intruder")
    assert all(part in str(error) for part in (here, error.details["intruder"], name))


@pytest.mark.parametrize("method", SESSION)
def test_a_second_thread_is_kept_out_of_a_session(engine: Engine, method: str) -> None:
    with engine.session("mine") as session, session.stream([5, 6], **GREEDY) as stream:
        next(stream)
        check(refused(lambda: SESSION[method](session)), "mine")
        assert len(list(stream)) == 29


@pytest.mark.parametrize("method", CHAT)
def test_a_second_thread_is_kept_out_of_a_conversation(engine: Engine, method: str) -> None:
    with engine.chat() as chat:
        chat.send("the", max_tokens=2)
        with chat.stream("and", **GREEDY) as stream:
            next(stream)
            check(refused(lambda: CHAT[method](chat)), chat.session_id)
            assert list(stream)


@pytest.mark.parametrize("method", STREAM)
@pytest.mark.parametrize("of", ["engine", "session", "chat"])
def test_a_second_thread_is_kept_out_of_a_stream(engine: Engine, of: str, method: str) -> None:
    """Not only raised: what the first thread waits for still comes."""
    source = {"engine": lambda: engine, "session": engine.session, "chat": engine.chat}[of]()
    inside, leave = threading.Event(), threading.Event()
    here = threading.current_thread()
    refusals: list[ConcurrentSessionUseError] = []

    def on_token(chunk: object) -> None:
        if chunk.index == 0:
            inside.set()
            leave.wait(30)

    with source.stream("the", on_token=on_token, request_id="mine", **GREEDY) as stream:

        def intrude() -> None:
            inside.wait(30)
            try:
                STREAM[method](stream)
            except ConcurrentSessionUseError as error:
                refusals.append(error)
            leave.set()

        intruder = threading.Thread(target=intrude, name="intruder")
        intruder.start()
        chunks = list(stream)
        intruder.join()
    assert sum(chunk.token_id is not None for chunk in chunks) == 30
    (error,) = refusals
    assert (error.details["owner"], error.details["intruder"]) == (here.name, "intruder")
    assert "mine" in str(error)


@pytest.mark.parametrize(
    ("kind", "table"), [(Session, SESSION), (ChatClient, CHAT), (TokenStream, STREAM)]
)
def test_the_tables_above_leave_no_public_method_out(kind: type, table: dict[str, object]) -> None:
    public = {
        name
        for each in kind.__mro__[:-1]
        for name, value in vars(each).items()
        if (inspect.isfunction(value) or (isinstance(value, property) and value.fset))
        and (not name.startswith("_") or name.startswith("__"))
    }
    assert public - UNGUARDED == set(table)


def test_a_callback_may_close_the_stream_that_it_is_called_by(engine: Engine) -> None:
    streams: list[TokenStream] = []
    stream = engine.stream("the", on_token=lambda _: streams[0].close(), **GREEDY)
    streams.append(stream)
    assert len(list(stream)) == 1
    assert stream.result.usage.completion_tokens == 1


def test_what_was_left_may_be_entered_by_another_thread(engine: Engine) -> None:
    with engine.session() as session, ThreadPoolExecutor(1) as pool:
        session.generate([5, 6], **GREEDY)
        result = pool.submit(session.generate, [7], **GREEDY).result(30)
    assert result.usage.cached_tokens > 0


def test_of_many_that_come_at_once_one_is_inside() -> None:
    guard = SingleUseGuard("it")
    start = threading.Barrier(8)
    inside: list[int] = []
    told: list[str] = []

    def come(number: int) -> None:
        start.wait(30)
        for _ in range(300):
            try:
                guard.enter()
            except ConcurrentSessionUseError as error:
                told.append(error.details["owner"])
                continue
            inside.append(number)
            assert inside == [number]
            inside.clear()
            guard.leave()

    with ThreadPoolExecutor(8, thread_name_prefix="comer") as pool:
        list(pool.map(come, range(8)))
    assert all(owner.startswith("comer") for owner in told)
