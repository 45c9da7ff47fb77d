"""Ways of asyncio's tasks to use an engine."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Final

from concurrency.stress.books import Seen
from concurrency.stress.caller import Caller
from concurrency.stress.prompts import prompt
from smallmind import SmallMindError

TaskWay = Callable[[Caller], Awaitable[None]]


async def agenerate(me: Caller) -> None:
    """The plain way."""
    number, options = me.question()
    request_id = me.new_id()
    try:
        result = await me.engine.agenerate(prompt(number), request_id=request_id, **options)
    except SmallMindError as error:
        me.note_error(request_id, error)
    else:
        me.note_result(request_id, result, number)


async def astream(me: Caller) -> None:
    """A stream that is read slowly, or left early."""
    number, options = me.question()
    request_id = me.new_id()
    leave_at = me.rng.choice((2, 1000))
    pause_s = me.rng.choice((0.0, 0.002))
    token_ids: list[int] = []
    try:
        chunks = me.engine.astream(
            prompt(number), request_id=request_id, max_buffered_tokens=4, **options
        )
        async with aclosing(chunks):
            async for chunk in chunks:
                if chunk.token_id is not None:
                    token_ids.append(chunk.token_id)
                if len(token_ids) >= leave_at:
                    break
                await asyncio.sleep(pause_s)
    except SmallMindError as error:
        me.note_error(request_id, error)
    else:
        me.book.note(request_id, Seen.UNTOLD)
    me.compare(request_id, token_ids, number)


async def cancelled_task(me: Caller) -> None:
    """A task that is cancelled at any moment, or times out."""
    number, options = me.question()
    request_id = me.new_id()
    try:
        async with asyncio.timeout(me.rng.uniform(0.0, 0.05)):
            result = await me.engine.agenerate(prompt(number), request_id=request_id, **options)
    except TimeoutError:
        me.book.note(request_id, Seen.PERHAPS)
    except SmallMindError as error:
        me.note_error(request_id, error)
    else:
        me.note_result(request_id, result, number)


async def converse(me: Caller) -> None:
    """A session of two turns."""
    try:
        session = me.engine.session()
    except SmallMindError:
        return
    with session:
        for _ in range(2):
            request_id = me.new_id()
            try:
                result = await session.agenerate([5, 6, 7], request_id=request_id, max_tokens=4)
            except SmallMindError as error:
                me.note_error(request_id, error)
            else:
                me.note_result(request_id, result, None)


WAYS: Final[tuple[TaskWay, ...]] = (agenerate, astream, cancelled_task, converse)


async def _work(me: Caller) -> None:
    while not me.stop.is_set():
        way = me.rng.choice(WAYS)
        me.book.count(f"task {way.__name__}")
        try:
            await way(me)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a fault
            me.book.fault(f"task {way.__name__}: {error!r}")
        await asyncio.sleep(0.2 if me.turned_away else me.rng.uniform(0.0, 0.05))


async def _all(callers: list[Caller]) -> None:
    async with asyncio.TaskGroup() as group:
        for caller in callers:
            group.create_task(_work(caller))


def work(callers: list[Caller]) -> None:
    """A loop with a task for each caller, until they are told to stop."""
    asyncio.run(_all(callers))
