"""As much of ASGI as an endpoint needs: bodies in, JSON out, and clients that go away.

Source: the ASGI specification 3.0, HTTP message format 2.x and lifespan protocol 2.0.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, TypeVar

from smallmind.endpoints._refusals import Refusal

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]
"""An ASGI application."""

Headers = Mapping[str, str]

_T = TypeVar("_T")


class ClientGoneError(Exception):
    """The client closed its connection: nobody waits for an answer."""


def headers_of(scope: Scope) -> dict[str, str]:
    """Headers by lower-case name; of several with one name the last."""
    return {
        name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
    }


async def read_body(receive: Receive, most_bytes: int) -> bytes:
    """The whole body.

    Raises:
        Refusal: it is larger than that.
        ClientGoneError: the client went away before its end.
    """
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        part = message.get("body", b"")
        size += len(part)
        if size > most_bytes:
            raise Refusal(413, f"the body is larger than {most_bytes} bytes", "REQUEST_TOO_LARGE")
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


async def unless_gone(work: Awaitable[_T], receive: Receive) -> _T:
    """Wait for work, and cancel it when the client goes away meanwhile.

    Args:
        work: to wait for.
        receive: tells of the client; its body was read.

    Raises:
        ClientGoneError: it went away.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientGoneError
    finally:
        for each in (task, gone):
            each.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def send_json(send: Send, status: int, document: object, headers: Headers) -> None:
    """Answer with a document; it is written in a thread, since it may be large."""
    body = await asyncio.to_thread(_encoded, document)
    sent = {"content-type": "application/json", "content-length": str(len(body)), **headers}
    pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in sent.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})


def _encoded(document: object) -> bytes:
    return json.dumps(document, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")


async def live(receive: Receive, send: Send) -> None:
    """Take part in the lifespan of a server that runs the endpoint alone."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
