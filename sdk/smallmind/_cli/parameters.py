"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from smallmind._exporters import exporter_names
from smallmind._registry import entries
from smallmind_engine.kernels import WeightsMode, backend_names
from smallmind_engine.runtime import GenerationOptions

DEFAULTS: Final = GenerationOptions()


def _complete_name(incomplete: str) -> list[str]:
    return [entry.name for entry in entries() if entry.name.startswith(incomplete)]


def complete_model(incomplete: str) -> list[str]:
    """Names of the registry, and paths, that begin so."""
    typed = Path(incomplete)
    folder = typed if incomplete.endswith("/") else typed.parent
    places = folder.iterdir() if folder.is_dir() else ()
    paths = [f"{place}/" if place.is_dir() else str(place) for place in places]
    wanted = [path for path in paths if path.endswith(("/", ".gguf"))]
    return _complete_name(incomplete) + sorted(p for p in wanted if p.startswith(incomplete))


def _complete_backend(incomplete: str) -> list[str]:
    return [name for name in backend_names() if name.startswith(incomplete)]


def _complete_exporter(incomplete: str) -> list[str]:
    return [name for name in exporter_names() if name.startswith(incomplete)]


Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="a .gguf file, a name of `smallmind list`, or hf:owner/repository/file.gguf",
        autocompletion=complete_model,
    ),
]
Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="a name of `smallmind list`", autocompletion=_complete_name
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="one JSON document on standard output")]
Backend = Annotated[
    str, typer.Option("--backend", help="what computes", autocompletion=_complete_backend)
]
Weights = Annotated[
    WeightsMode | None,
    typer.Option("--weights", help="where dequantised weights live", show_default="what fits"),
]
ContextLength = Annotated[
    int | None,
    typer.Option("--context-length", help="positions to use", show_default="all the model has"),
]
Exporters = Annotated[
    list[str] | None,
    typer.Option(
        "--exporter",
        help="send events there; may be given again",
        show_default="$SMALLMIND_EXPORTERS",
        autocompletion=_complete_exporter,
    ),
]
MaxTokens = Annotated[int, typer.Option("--max-tokens", "-n", help="tokens to produce at most")]
Temperature = Annotated[
    float, typer.Option("--temperature", "-t", help="0 is greedy; higher is more random")
]
TopK = Annotated[int, typer.Option("--top-k", help="draw among so many best tokens; 0 for all")]
TopP = Annotated[
    float, typer.Option("--top-p", help="draw among the smallest set with this probability")
]
MinP = Annotated[
    float, typer.Option("--min-p", help="draw among tokens with this share of the best one's")
]
Seed = Annotated[
    int | None, typer.Option("--seed", help="make the draws repeatable", show_default="a fresh one")
]
Stop = Annotated[
    list[str] | None, typer.Option("--stop", help="text that ends it; may be given again")
]
Logprobs = Annotated[
    int | None,
    typer.Option("--logprobs", help="report each token and so many best alternatives"),
]
Timeout = Annotated[
    float | None, typer.Option("--timeout", help="seconds until the request is stopped")
]
Traceparent = Annotated[
    str | None,
    typer.Option("--traceparent", envvar="TRACEPARENT", help="W3C trace context of the caller"),
]
Tracestate = Annotated[
    str | None,
    typer.Option("--tracestate", envvar="TRACESTATE", help="what belongs to that context"),
]
System = Annotated[
    str | None, typer.Option("--system", help="instructions before the first turn of a chat")
]
