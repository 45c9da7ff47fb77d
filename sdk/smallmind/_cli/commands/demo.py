"""``smallmind demo``."""

from __future__ import annotations

import threading
from typing import Annotated, Final, Protocol, cast

import typer

from smallmind._chat_result import ChatStream
from smallmind._cli.demo_views import (
    EventRecord,
    chosen_samples,
    event_grid,
    memory_grid,
    model_grid,
)
from smallmind._cli.exit_codes import ExitCode, exit_code_of
from smallmind._cli.interrupts import interruptible
from smallmind._cli.parameters import Backend, MaxTokens
from smallmind._cli.request_views import ledger_grid, request_facts
from smallmind._cli.requests import finished, load_with_bars
from smallmind._cli.screen import Screen
from smallmind._cli.wrapping import WordWrap
from smallmind._engine import Engine
from smallmind._version import __version__
from smallmind_engine.control import CancellationToken
from smallmind_engine.runtime import (
    EngineOptions,
    GenerationOptions,
    GenerationResult,
    TokenStream,
)

_EXPORTERS: Final = ("memory", "prometheus")
_QUESTION: Final = "What is photosynthesis?"
_BEGINNING: Final = "Photosynthesis is"
_MAX_TOKENS: Final = 160
_READABLE: Final = 90
"""Columns of running text."""


class MetricsServer(Protocol):
    """A running ``/metrics`` endpoint."""

    @property
    def url(self) -> str:
        """Where to scrape."""
        ...

    def close(self) -> None:
        """Stop serving."""
        ...


class MetricsPage(Protocol):
    """An exporter that shows its metrics to Prometheus."""

    def render(self) -> bytes:
        """What a scrape would get now."""
        ...

    def start_http_server(self, port: int = 0, addr: str = "127.0.0.1") -> MetricsServer:
        """Serve ``/metrics``."""
        ...


def demo(
    *,
    model: Annotated[
        str, typer.Option("--model", metavar="MODEL", help="a name or a .gguf file")
    ] = "smollm2",
    prompt: Annotated[
        str | None, typer.Option("--prompt", help="what to say to it", show_default="a question")
    ] = None,
    max_tokens: MaxTokens = _MAX_TOKENS,
    backend: Backend = "auto",
    serve: Annotated[
        bool, typer.Option("--serve", help="keep /metrics up afterwards, until Ctrl-C")
    ] = False,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="of /metrics; 0 for any free one")
    ] = 0,
) -> ExitCode:
    """Run a small real model, and show what was observed.

    Fetches the model (once, its SHA-256 checked), loads it with telemetry on, streams an answer,
    and shows where the time went and what the exporters saw.
    """
    screen = Screen.open()
    screen.line(f"smallmind {__version__}: a language model in this process, observed", "bold")
    with (
        interruptible() as token,
        load_with_bars(
            screen,
            model,
            options=EngineOptions(backend=backend),
            exporters=_EXPORTERS,
            cancellation=token,
            keep=True,
        ) as engine,
    ):
        metrics = cast("MetricsPage", engine.exporter("prometheus"))
        server = metrics.start_http_server(port) if serve else None
        screen.show(model_grid(engine))
        result = _answered(screen, engine, prompt, max_tokens, token)
        _show_observed(screen, engine, result, metrics)
        code = exit_code_of(result)
        if server is None:
            _tell_how_to_serve(screen)
        elif code is not ExitCode.INTERRUPTED:
            _keep_up(screen, server, token)
    return code


def _answered(
    screen: Screen,
    engine: Engine,
    prompt: str | None,
    max_tokens: int,
    cancellation: CancellationToken,
) -> GenerationResult:
    """Ask, and stream the answer; a model without a chat format continues a text instead."""
    options = GenerationOptions(max_tokens=max_tokens, temperature=0.0, cancellation=cancellation)
    chats = engine.model.chat_template is not None
    text = prompt or (_QUESTION if chats else _BEGINNING)
    screen.heading("Prompt and completion")
    screen.line(f"> {text}", "bold")
    if not chats:
        return _streamed(screen, engine.stream(text, options=options))
    # The conversation is left open, so that its KV cache can be shown.
    return _streamed(screen, engine.chat().stream(text, options=options))


def _streamed(screen: Screen, stream: TokenStream | ChatStream) -> GenerationResult:
    """Show the answer as it comes, on a terminal in lines that break between words."""
    wrap = WordWrap(min(screen.out.width, _READABLE), indent="  ")
    feed = wrap.feed if screen.fancy else str
    result = finished(stream, lambda text: screen.write(feed(text)))
    screen.write(wrap.end() + "\n")
    return result


def _show_observed(
    screen: Screen, engine: Engine, result: GenerationResult, metrics: MetricsPage
) -> None:
    loaded = engine.model
    screen.heading("What was observed")
    record = cast("EventRecord", engine.exporter("memory"))
    screen.show_pairs(
        (ledger_grid(result.timings, loaded.load_phases, loaded.load_s), request_facts(result)),
        (event_grid(record), memory_grid(engine)),
    )
    screen.heading("What Prometheus scrapes (some of it)")
    for sample in chosen_samples(metrics.render().decode().splitlines()):
        screen.line(sample, "dim")


def _tell_how_to_serve(screen: Screen) -> None:
    screen.line()
    screen.line("To scrape it yourself: smallmind demo --serve (or make demo ARGS=--serve)")


def _keep_up(screen: Screen, server: MetricsServer, token: CancellationToken) -> None:
    ended = threading.Event()
    token.on_cancel(ended.set)
    screen.line()
    screen.line(f"/metrics is up at {server.url} until Ctrl-C", "bold green")
    screen.flush()
    ended.wait()
    screen.note("closed")
