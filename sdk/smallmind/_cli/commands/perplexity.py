"""``smallmind perplexity``."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from smallmind._cli.exit_codes import ExitCode
from smallmind._cli.formatting import rate_text, seconds_text
from smallmind._cli.interrupts import interruptible
from smallmind._cli.json_documents import emit
from smallmind._cli.parameters import (
    AsJson,
    Backend,
    ContextLength,
    Exporters,
    Model,
    Timeout,
    Weights,
)
from smallmind._cli.progress import Bars
from smallmind._cli.requests import load_with_bars
from smallmind._cli.screen import Screen
from smallmind_engine.runtime import EngineOptions
from smallmind_engine.runtime.reading import PerplexityResult
from smallmind_engine.telemetry.errors import ConfigError
from smallmind_engine.telemetry.reasons import ReasonCode

_STANDARD_INPUT = "-"


def perplexity(
    model: Model,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="a UTF-8 text; - reads standard input")
    ],
    *,
    window: Annotated[
        int | None,
        typer.Option(
            "--window", help="tokens that the model sees at once", show_default="1024, or all"
        ),
    ] = None,
    stride: Annotated[
        int | None,
        typer.Option("--stride", help="tokens from window to window", show_default="half a window"),
    ] = None,
    timeout: Timeout = None,
    backend: Backend = "auto",
    weights: Weights = None,
    context_length: ContextLength = None,
    exporter: Exporters = None,
    as_json: AsJson = False,
) -> ExitCode:
    """Measure how well a model foresees a text: lower is better, 1 is certainty.

    Windows overlap, so that every token is scored once, with at least a window less a stride of
    text before it in sight.
    """
    text = _read(file)
    screen = Screen.open()
    options = EngineOptions(backend=backend, weights=weights, context_length=context_length)
    with (
        interruptible() as token,
        load_with_bars(
            screen, model, options=options, exporters=exporter or None, cancellation=token
        ) as engine,
    ):
        with Bars(screen) as bars:
            result = engine.perplexity(
                text,
                window=window,
                stride=stride,
                request_timeout=timeout,
                cancellation=token,
                on_progress=partial(bars.update, "score"),
            )
        if as_json:
            emit(result)
        else:
            for line in _lines(result):
                screen.line(line)
    return ExitCode.OK


def _read(file: str) -> str:
    try:
        data = sys.stdin.buffer.read() if file == _STANDARD_INPUT else Path(file).read_bytes()
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        why = f"is not UTF-8: {error.reason} at byte {error.start}"
        hint = "convert it to UTF-8 first"
    except OSError as error:
        why = f"cannot be read: {error.strerror or error}"
        hint = "pass the path of a text file, or - for standard input"
    raise ConfigError(ReasonCode.OPTION_INVALID, f"{file} {why}", hint=hint, option="FILE")


def _lines(result: PerplexityResult) -> list[str]:
    bits = "" if result.bits_per_byte is None else f", {result.bits_per_byte:.4f} bits a byte"
    speed = rate_text(result.tokens / result.duration_s if result.duration_s > 0.0 else None)
    windows = f"{result.windows} windows of {result.window} every {result.stride}"
    return [
        f"perplexity {result.perplexity:.4f} ± {result.standard_error:.4f}{bits}",
        f"{result.tokens} tokens in {windows}; {seconds_text(result.duration_s)}, {speed}",
    ]
