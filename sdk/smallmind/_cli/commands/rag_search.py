"""``smallmind rag search``."""

from __future__ import annotations

from typing import Annotated

import typer

from smallmind._cli.exit_codes import ExitCode
from smallmind._cli.interrupts import interruptible
from smallmind._cli.json_documents import emit
from smallmind._cli.parameters import AsJson, Timeout
from smallmind._cli.rag_parts import (
    DEFAULT_INDEX,
    SEARCH,
    EmbedderName,
    Holds,
    Index,
    Mode,
    TopSources,
    User,
    existing_index,
    show_chunks,
    user_of,
)
from smallmind._cli.screen import Screen
from smallmind.rag import RetrievalOptions
from smallmind_engine.control import WorkLimit


def rag_search(
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="what to look for")],
    *,
    index: Index = DEFAULT_INDEX,
    user: User = None,
    holds: Holds = None,
    mode: Mode = None,
    sources: TopSources = SEARCH.top_k,
    timeout: Timeout = None,
    embedder: EmbedderName = "hashing",
    as_json: AsJson = False,
) -> ExitCode:
    """Show the chunks that fit a question best, without asking a model.

    Exits with 1 when nothing was found.
    """
    screen = Screen.open()
    who = user_of(user, holds)
    with interruptible() as token, existing_index(screen, index, embedder, token) as opened:
        found = opened.retrieve(
            question,
            user=who,
            options=RetrievalOptions(mode=mode, top_k=sources),
            limit=WorkLimit.within(timeout, token),
        )
    if as_json:
        emit(found)
    elif found.chunks:
        show_chunks(screen, found.chunks)
    else:
        screen.note("nothing was found", "yellow")
    return ExitCode.OK if found.chunks else ExitCode.FAILED
