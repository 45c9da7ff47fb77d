"""``smallmind chat``."""

from __future__ import annotations

import dataclasses
import functools
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from smallmind._chat import ChatClient
from smallmind._chat_history import FullHistory, HistoryPolicy, SlidingHistory
from smallmind._chat_options import ChatOptions
from smallmind._cli.conversation import Conversation, Desk
from smallmind._cli.exit_codes import ExitCode
from smallmind._cli.interrupts import interruptible
from smallmind._cli.parameters import (
    DEFAULTS,
    Backend,
    ContextLength,
    Exporters,
    MaxTokens,
    MinP,
    Model,
    Seed,
    System,
    Temperature,
    TopK,
    TopP,
)
from smallmind._cli.requests import load_with_bars, note_guess
from smallmind._cli.screen import Screen
from smallmind._engine import Engine
from smallmind._stores import ChatStore, SQLiteChatStore
from smallmind_engine.runtime import EngineOptions, GenerationOptions


class History(StrEnum):
    """What happens when a conversation outgrows the context."""

    SLIDING = "sliding"
    FULL = "full"


_POLICIES: dict[History, HistoryPolicy] = {
    History.SLIDING: SlidingHistory(),
    History.FULL: FullHistory(),
}


def chat(
    model: Model,
    *,
    system: System = None,
    session: Annotated[
        str | None,
        typer.Option("--session", help="keep the conversation under this name, or take it up"),
    ] = None,
    store: Annotated[
        Path | None,
        typer.Option(
            "--store",
            envvar="SMALLMIND_CHATS",
            help="file in which conversations are kept",
            show_default="one in the user's data folder",
        ),
    ] = None,
    history: Annotated[
        History,
        typer.Option("--history", help="leave out the oldest turns when it gets long, or refuse"),
    ] = History.SLIDING,
    template: Annotated[
        str | None,
        typer.Option("--template", help="chat format, such as chatml", show_default="the model's"),
    ] = None,
    max_tokens: MaxTokens = 1024,
    temperature: Temperature = DEFAULTS.temperature,
    top_k: TopK = DEFAULTS.top_k,
    top_p: TopP = DEFAULTS.top_p,
    min_p: MinP = DEFAULTS.min_p,
    seed: Seed = None,
    backend: Backend = "auto",
    context_length: ContextLength = None,
    exporter: Exporters = None,
) -> ExitCode:
    """Talk to a model. /help lists the commands, /exit leaves, Ctrl-C stops an answer."""
    screen = Screen.open()
    options = GenerationOptions(
        max_tokens=max_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        seed=seed,
    )
    with interruptible() as token:
        engine = load_with_bars(
            screen,
            model,
            options=EngineOptions(backend=backend, context_length=context_length),
            exporters=exporter or None,
            cancellation=token,
        )
    with engine:
        chat_options = ChatOptions(system=system, template=template, history=_POLICIES[history])
        desk = desk_of(engine, chat_options, store)
        client = desk.opened(session)
        _greet(screen, client)
        return Conversation(
            screen, client, options, interactive=sys.stdin.isatty(), desk=desk
        ).run()


def desk_of(engine: Engine, options: ChatOptions, path: Path | None) -> Desk:
    """Opens conversations of ``engine``; those with a name are kept in the file ``path``."""

    @functools.cache
    def store() -> ChatStore:
        return SQLiteChatStore(path or _default_path())

    def opened(name: str | None) -> ChatClient:
        if name is None:
            return engine.chat(options=options)
        return engine.chat(options=dataclasses.replace(options, session_id=name, store=store()))

    return Desk(opened, store)


def _default_path() -> Path:
    import platformdirs

    return platformdirs.user_data_path("smallmind", appauthor=False) / "chats.sqlite3"


def _greet(screen: Screen, client: ChatClient) -> None:
    note_guess(screen, client)
    if client.turns:
        screen.note(f"{client.session_id}: {client.turns} turns; new ones are kept as they come")
