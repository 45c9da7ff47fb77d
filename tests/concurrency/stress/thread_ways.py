"""Ways of threads to use an engine: well, badly, and all at once."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Final

from concurrency.stress.books import Seen
from concurrency.stress.caller import Caller, OwnError
from concurrency.stress.prompts import GREEDY, prompt
from smallmind import CancellationToken, Session, SmallMindError, StopReason, TokenStream
from smallmind_engine.telemetry.errors import ConcurrentSessionUseError

Way = Callable[[Caller], None]
POLICIES: Final = ("block", "cancel", "drop_request")


def generate(me: Caller) -> None:
    """The plain way."""
    me.ask(me.engine.generate, priority=me.rng.randrange(-3, 4))


def many_at_once(me: Caller) -> None:
    """A crowd, so that the queue is full."""
    crowd = [me.another(me.new_id()) for _ in range(6)]
    threads = [threading.Thread(target=generate, args=(each,)) for each in crowd]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def cancelled(me: Caller) -> None:
    """Cancelled by another thread, at any moment."""
    token = CancellationToken()
    me.alarms.after(me.rng.uniform(0.0, 0.05), token.cancel)
    me.ask(me.engine.generate, cancellation=token)


def timed_out(me: Caller) -> None:
    """With a deadline that may be too early."""
    me.ask(me.engine.generate, request_timeout=me.rng.uniform(0.001, 0.05))


def callback(me: Caller) -> None:
    """With a callback that cancels, raises, or is slow."""
    token, kind = CancellationToken(), me.rng.choice(("cancel", "raise", "slow"))
    at = me.rng.randrange(4)

    def on_token(chunk: object) -> None:
        if chunk.index != at:
            return
        if kind == "cancel":
            token.cancel()
        elif kind == "raise":
            raise OwnError
        else:
            me.stop.wait(0.02)

    me.ask(me.engine.generate, cancellation=token, on_token=on_token)


def impossible(me: Caller) -> None:
    """Asked for what cannot be."""
    more = me.rng.choice(({"logit_bias": {10**6: 1.0}}, {"max_tokens": 1}))
    request_id = me.new_id()
    try:
        me.engine.generate([5] * 400, request_id=request_id, **{**GREEDY, **more})
    except SmallMindError as error:
        me.note_error(request_id, error)
    else:
        me.book.fault(f"{request_id} was not refused")


def read(me: Caller) -> None:
    """A stream, read to its end."""
    _read(me, pause_s=0.0, buffered=me.rng.choice((None, 1, 4, 64)))


def read_slowly(me: Caller) -> None:
    """A stream whose reader takes its time, under every policy."""
    _read(me, pause_s=me.rng.uniform(0.0, 0.01), buffered=me.rng.choice((None, 1, 3)))


def _read(me: Caller, *, pause_s: float, buffered: int | None) -> None:
    number, options = me.question()
    request_id, policy = me.new_id(), me.rng.choice(POLICIES)
    token_ids: list[int] = []
    try:
        with me.engine.stream(
            prompt(number),
            request_id=request_id,
            max_buffered_tokens=buffered,
            backpressure=policy,
            **options,
        ) as stream:
            for chunk in stream:
                if chunk.token_id is not None:
                    token_ids.append(chunk.token_id)
                if pause_s:
                    me.stop.wait(pause_s)
    except SmallMindError as error:
        me.note_error(request_id, error)
    else:
        me.note_result(request_id, stream.result, number)
    me.compare(request_id, token_ids, number)


def read_by_stalling(me: Caller) -> None:
    """A stream whose reader goes away for so long that its place is given to others."""
    number, options = me.question()
    request_id, token = me.new_id(), CancellationToken()
    stays = me.rng.random() < 0.5
    try:
        with me.engine.stream(
            prompt(number),
            request_id=request_id,
            cancellation=token,
            max_buffered_tokens=me.rng.choice((None, 2)),
            **options,
        ) as stream:
            next(stream, None)
            me.stop.wait(me.rng.uniform(0.1, 1.5))
            if me.rng.random() < 0.3:
                token.cancel()
            if stays:
                for _ in stream:
                    pass
    except SmallMindError as error:
        me.note_error(request_id, error)
    else:
        me.note_result(request_id, stream.result, number)


def abandoned(me: Caller) -> None:
    """A stream that is dropped: read a little or not at all, at once or as a cycle of garbage."""
    number, options = me.question()
    request_id = me.new_id()
    buffered = me.rng.choice((None, 2))
    try:
        stream: TokenStream | None = me.engine.stream(
            prompt(number), request_id=request_id, max_buffered_tokens=buffered, **options
        )
        begun = buffered is not None
        for _ in range(me.rng.randrange(3)):
            begun = True
            next(stream, None)
    except SmallMindError as error:
        me.note_error(request_id, error)
        return
    me.book.note(request_id, Seen.UNTOLD if begun else Seen.NONE)
    if me.rng.random() < 0.5:
        holder: dict[str, object] = {"stream": stream}
        holder["self"] = holder
    stream = None


def converse(me: Caller) -> None:
    """A session of a few turns, with a fork, and an intruder now and then."""
    with contextlib.ExitStack() as stack:
        try:
            session = stack.enter_context(me.engine.session())
        except SmallMindError:
            me.stop.wait(0.1)
            return
        for _ in range(me.rng.randrange(1, 4)):
            _turn(me, session)
        if me.rng.random() < 0.5:
            with contextlib.suppress(SmallMindError):
                other = stack.enter_context(session.fork())
                _turn(me, other)
        if me.rng.random() < 0.3:
            _intrude(me, session)


def _turn(me: Caller, session: Session) -> None:
    request_id, token = me.new_id(), CancellationToken()
    if me.rng.random() < 0.2:
        me.alarms.after(me.rng.uniform(0.0, 0.02), token.cancel)
    try:
        result = session.generate(
            prompt(me.rng.randrange(6)),
            request_id=request_id,
            cancellation=token,
            context_overflow=me.rng.choice(("error", "truncate_middle", "sliding")),
            **{**GREEDY, "max_tokens": 8},
        )
    except SmallMindError as error:
        me.note_error(request_id, error)
    else:
        me.note_result(request_id, result, None)


def _intrude(me: Caller, session: Session) -> None:
    request_id = me.new_id()
    told: list[bool] = []

    def come_in() -> None:
        try:
            session.generate([5], max_tokens=1)
        except ConcurrentSessionUseError:
            told.append(True)

    try:
        with session.stream(
            [5, 6], request_id=request_id, context_overflow="sliding", max_tokens=4
        ) as stream:
            next(stream, None)
            intruder = threading.Thread(target=come_in)
            intruder.start()
            intruder.join()
    except SmallMindError as error:
        me.note_error(request_id, error)
        return
    me.book.note(request_id, Seen.TOLD, stream.result.stop_reason if stream.result else None)
    if not told and stream.result.stop_reason is StopReason.MAX_TOKENS:
        me.book.fault("an intruder came into a session")


def chat(me: Caller) -> None:
    """A conversation in the model's format."""
    try:
        with me.engine.chat("Be brief.") as client:
            for text in ("the and", "in"):
                request_id = me.new_id()
                try:
                    result = client.send(text, request_id=request_id, max_tokens=5)
                except SmallMindError as error:
                    me.note_error(request_id, error)
                else:
                    me.book.note(request_id, Seen.TOLD, result.stop_reason)
    except SmallMindError:
        me.stop.wait(0.1)


WAYS: Final[tuple[Way, ...]] = (
    generate,
    many_at_once,
    cancelled,
    timed_out,
    callback,
    impossible,
    read,
    read_slowly,
    read_by_stalling,
    abandoned,
    converse,
    chat,
)


def work(me: Caller) -> None:
    """Do one thing after the other until told to stop."""
    while not me.stop.is_set():
        way = me.rng.choice(WAYS)
        me.book.count(way.__name__)
        try:
            way(me)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is a fault
            me.book.fault(f"{way.__name__}: {error!r}")
        if me.turned_away:
            me.stop.wait(0.2)
