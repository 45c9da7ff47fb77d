"""The commands, put together."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Final

import typer

from smallmind._cli.commands import (
    bench,
    chat,
    demo,
    generate,
    inspect_model,
    list_models,
    perplexity,
    pull,
    rag_ask,
    rag_index,
    rag_search,
    remove,
    replay,
    report,
    top,
    validate,
    version,
    warmup,
)
from smallmind._cli.exit_codes import ExitCode
from smallmind._cli.failures import reported
from smallmind._cli.settings import DEBUG

_COMMANDS: Final[dict[str, Callable[..., ExitCode | None]]] = {
    "demo": demo.demo,
    "list": list_models.list_models,
    "pull": pull.pull,
    "rm": remove.remove,
    "inspect": inspect_model.inspect_model,
    "generate": generate.generate,
    "chat": chat.chat,
    "validate": validate.validate,
    "perplexity": perplexity.perplexity,
    "bench": bench.bench,
    "warmup": warmup.warmup,
    "top": top.top,
    "report": report.report,
    "replay": replay.replay_log,
    "version": version.version,
}
_RAG_COMMANDS: Final[dict[str, Callable[..., ExitCode | None]]] = {
    "index": rag_index.rag_index,
    "search": rag_search.rag_search,
    "ask": rag_ask.rag_ask,
}

app = typer.Typer(
    name="smallmind",
    help="Run GGUF language models in this process, and see everything they do.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _name, _command in _COMMANDS.items():
    app.command(_name)(reported(_command))

rag = typer.Typer(
    help="Answer questions from your own documents, with citations.", no_args_is_help=True
)
for _name, _command in _RAG_COMMANDS.items():
    rag.command(_name)(reported(_command))
app.add_typer(rag, name="rag")


@app.callback()
def root(
    *,
    debug: Annotated[
        bool,
        typer.Option("--debug", envvar="SMALLMIND_DEBUG", help="show the traceback of an error"),
    ] = False,
) -> None:
    """Run GGUF language models in this process, and see everything they do."""
    DEBUG.set(debug)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command; answers with the exit code."""
    _tolerate_poor_encodings()
    try:
        app(args=None if arguments is None else list(arguments), prog_name="smallmind")
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else ExitCode.OK
    else:  # pragma: no cover - typer always ends with SystemExit
        code = ExitCode.OK
    return code if _flushed() else ExitCode.NO_READER


def _tolerate_poor_encodings() -> None:
    """Where the output cannot show a character it shows a stand-in, rather than fail."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _flushed() -> bool:
    """Write out what is buffered while errors can still be dealt with."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter flushes again at its end; that must not complain.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True
