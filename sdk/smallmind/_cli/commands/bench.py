"""``smallmind bench``."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Annotated, Final

import typer

from smallmind._cli.blocks import Column, Grid
from smallmind._cli.exit_codes import ExitCode, exit_code_of
from smallmind._cli.formatting import rate_text, seconds_text
from smallmind._cli.interrupts import interruptible
from smallmind._cli.json_documents import Json, emit
from smallmind._cli.kernel_profile import KernelProfile
from smallmind._cli.parameters import AsJson, Backend, Model, Weights
from smallmind._cli.requests import load_with_bars
from smallmind._cli.roofline_views import (
    machine_document,
    machine_facts,
    roofline_document,
    roofline_grid,
)
from smallmind._cli.screen import Screen
from smallmind._engine import Engine
from smallmind_engine.control import CancellationToken
from smallmind_engine.runtime import Detail, EngineOptions, GenerationOptions, GenerationResult

_TEXT: Final = (
    "The lighthouse keeper wrote down the weather every morning: wind from the west, rain before"
    " noon, and three ships that passed without a signal. "
)


def bench(
    model: Model,
    *,
    prompt_tokens: Annotated[
        int, typer.Option("--prompt-tokens", min=1, help="length of the prompt")
    ] = 256,
    tokens: Annotated[int, typer.Option("--tokens", min=2, help="tokens to decode")] = 64,
    repeat: Annotated[int, typer.Option("--repeat", min=1, help="runs that are measured")] = 3,
    backend: Backend = "auto",
    weights: Weights = None,
    kernels: Annotated[
        bool,
        typer.Option("--kernels", help="show what each operation of the model reached instead"),
    ] = False,
    as_json: AsJson = False,
) -> ExitCode:
    """Measure the speed of prefill and decode, after one run to warm up."""
    screen = Screen.open()
    profile = KernelProfile() if kernels else None
    detail = Detail.TOKEN if profile is None else Detail.KERNEL
    options = EngineOptions(backend=backend, weights=weights, detail=detail)
    exporters = () if profile is None else (profile,)
    with (
        interruptible() as token,
        load_with_bars(
            screen, model, options=options, exporters=exporters, cancellation=token
        ) as engine,
    ):
        results: list[GenerationResult] = []
        for _ in range(repeat + 1):
            result = _run(engine, prompt_tokens, tokens, token)
            code = exit_code_of(result)
            if code is not ExitCode.OK:
                screen.note(f"stopped: {result.stop_reason.value}", "yellow")
                return code
            results.append(result)
            if profile is not None and len(results) == 1:
                profile.clear()
        if profile is not None:
            _show_profile(screen, engine, profile, as_json=as_json)
            return ExitCode.OK
        measured = results[1:]
        series = {name: [read(each) for each in measured] for name, read in _FIGURES.items()}
        if as_json:
            emit(_document(engine, measured, series))
        else:
            screen.show(_grid(engine, measured, series))
    return ExitCode.OK


def _show_profile(screen: Screen, engine: Engine, profile: KernelProfile, *, as_json: bool) -> None:
    parts = {"prefill": profile.prefill, "decode": profile.decode}
    if as_json:
        document: Json = {"model": engine.model.name, "backend": engine.backend}
        if profile.measured is not None:
            document["machine"] = machine_document(profile.measured)
        emit({**document, **{name: roofline_document(rows) for name, rows in parts.items()}})
        return
    if profile.measured is not None:
        screen.show(machine_facts(profile.measured))
    for name, rows in parts.items():
        title = f"{engine.model.name} on {engine.backend}: operations of {name}"
        screen.show(roofline_grid(title, rows))


def _run(
    engine: Engine, prompt_tokens: int, tokens: int, cancellation: CancellationToken
) -> GenerationResult:
    ids = engine.tokenize(_TEXT)
    prompt = (ids * (prompt_tokens // len(ids) + 1))[:prompt_tokens]
    options = GenerationOptions(
        max_tokens=tokens, temperature=0.0, ignore_eos=True, cancellation=cancellation
    )
    return engine.generate(prompt, options=options)


_FIGURES: Final[dict[str, Callable[[GenerationResult], float]]] = {
    "prefill_tokens_per_second": lambda r: r.timings.prefill_tokens_per_second or 0.0,
    "decode_tokens_per_second": lambda r: r.timings.tokens_per_second or 0.0,
    "time_to_first_token_s": lambda r: r.timings.time_to_first_token_s or 0.0,
    "total_s": lambda r: r.timings.total_s,
}
_LABELS: Final = {
    "prefill_tokens_per_second": ("prefill", rate_text),
    "decode_tokens_per_second": ("decode", rate_text),
    "time_to_first_token_s": ("time to first token", seconds_text),
    "total_s": ("whole request", seconds_text),
}


def _grid(
    engine: Engine, measured: Sequence[GenerationResult], series: dict[str, list[float]]
) -> Grid:
    usage = measured[0].usage
    rows = []
    for name, values in series.items():
        label, text = _LABELS[name]
        rows.append((label, text(statistics.median(values)), text(min(values)), text(max(values))))
    return Grid(
        title=f"{engine.model.name} on {engine.backend}: {usage.prompt_tokens} prompt tokens,"
        f" {usage.completion_tokens} decoded, {len(measured)} runs",
        columns=(
            Column(""),
            Column("median", right=True),
            Column("least", right=True),
            Column("most", right=True),
        ),
        sections=(tuple(rows),),
    )


def _document(
    engine: Engine, measured: Sequence[GenerationResult], series: dict[str, list[float]]
) -> Json:
    usage = measured[0].usage
    return {
        "model": engine.model.name,
        "model_fingerprint": engine.model.fingerprint,
        "backend": engine.backend,
        "weights": engine.model.runner.weights_mode,
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "repeat": len(measured),
        "load_s": engine.model.load_s,
        "median": {name: statistics.median(values) for name, values in series.items()},
        "runs": [
            {name: values[index] for name, values in series.items()}
            for index in range(len(measured))
        ],
    }
