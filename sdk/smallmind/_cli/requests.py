"""Loading a model and running a request, the way several commands do."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from smallmind._chat import ChatClient
from smallmind._chat_choice import TemplateOrigin
from smallmind._chat_result import ChatStream
from smallmind._cli.progress import Bars
from smallmind._cli.screen import Screen
from smallmind._engine import Engine
from smallmind._load import load
from smallmind_engine.control import CancellationToken
from smallmind_engine.runtime import EngineOptions, GenerationResult, TokenStream
from smallmind_engine.telemetry import Exporter, SmallMindError


def load_with_bars(
    screen: Screen,
    model: str,
    *,
    options: EngineOptions,
    exporters: Iterable[Exporter | str] | None,
    cancellation: CancellationToken,
    keep: bool = False,
) -> Engine:
    """Load a model while bars show how far it is; errors as of ``smallmind.load``.

    Args:
        screen: shows the bars.
        model: a path or a name.
        options: of the engine.
        exporters: as for ``load``.
        cancellation: stops it.
        keep: leave the finished bars where they are.
    """
    with Bars(screen, keep=keep) as bars:
        return load(
            model,
            options=options,
            exporters=exporters,
            cancellation=cancellation,
            on_progress=bars.update,
        )


def note_guess(screen: Screen, client: ChatClient) -> None:
    """Say so when the chat format was guessed."""
    template = client.template
    if template.origin is TemplateOrigin.FALLBACK:
        screen.note(
            f"the model has no chat template; {template.name} is used: {template.why}", "yellow"
        )


def finished(
    stream: TokenStream | ChatStream, write: Callable[[str], None] | None = None
) -> GenerationResult:
    """Read a stream to its end.

    Args:
        stream: of a request.
        write: receives the text as it comes, and a line break when it fails midway.

    Raises:
        SmallMindError: as the request does.
    """
    begun = False
    with stream:
        try:
            for chunk in stream:
                if write is not None and chunk.text:
                    begun = True
                    write(chunk.text)
        except (SmallMindError, KeyboardInterrupt):
            if write is not None and begun:
                write("\n")
            raise
    if stream.result is None:  # pragma: no cover - a stream that ended has a result or raised
        raise RuntimeError
    return stream.result
