"""``smallmind generate``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from smallmind._chat_result import ChatStream
from smallmind._cli.exit_codes import ExitCode, exit_code_of
from smallmind._cli.interrupts import interruptible
from smallmind._cli.json_documents import emit, result_document
from smallmind._cli.parameters import (
    DEFAULTS,
    AsJson,
    Backend,
    ContextLength,
    Exporters,
    Logprobs,
    MaxTokens,
    MinP,
    Model,
    Seed,
    Stop,
    System,
    Temperature,
    Timeout,
    TopK,
    TopP,
    Traceparent,
    Tracestate,
    Weights,
)
from smallmind._cli.request_views import ledger_grid, logprob_grid, request_facts
from smallmind._cli.requests import finished, load_with_bars, note_guess
from smallmind._cli.response_formats import (
    Choices,
    GrammarFile,
    JsonSchemaFile,
    RegexPattern,
    response_format,
)
from smallmind._cli.screen import Screen
from smallmind._engine import Engine
from smallmind_engine.runtime import (
    EngineOptions,
    GenerationOptions,
    GenerationResult,
    TokenStream,
)
from smallmind_engine.telemetry.errors import ConfigError
from smallmind_engine.telemetry.reasons import ReasonCode


def generate(
    model: Model,
    prompt: Annotated[
        str, typer.Argument(metavar="PROMPT", help="text to continue; - reads standard input")
    ],
    *,
    max_tokens: MaxTokens = DEFAULTS.max_tokens,
    temperature: Temperature = DEFAULTS.temperature,
    top_k: TopK = DEFAULTS.top_k,
    top_p: TopP = DEFAULTS.top_p,
    min_p: MinP = DEFAULTS.min_p,
    seed: Seed = None,
    stop: Stop = None,
    json_schema: JsonSchemaFile = None,
    regex: RegexPattern = None,
    choice: Choices = None,
    grammar: GrammarFile = None,
    logprobs: Logprobs = None,
    timeout: Timeout = None,
    chat: Annotated[
        bool, typer.Option("--chat", help="send the prompt as a turn in the model's chat format")
    ] = False,
    system: System = None,
    backend: Backend = "auto",
    weights: Weights = None,
    context_length: ContextLength = None,
    exporter: Exporters = None,
    traceparent: Traceparent = None,
    tracestate: Tracestate = None,
    stats: Annotated[
        bool, typer.Option("--stats", help="show the time ledger and figures on standard error")
    ] = False,
    as_json: AsJson = False,
) -> ExitCode:
    """Continue a prompt, streaming the text as it comes.

    Ctrl-C stops within a token and keeps what there is.
    """
    screen = Screen.open()
    engine_options = EngineOptions(backend=backend, weights=weights, context_length=context_length)
    with interruptible() as token:
        options = GenerationOptions(
            max_tokens=max_tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            seed=seed,
            stop=tuple(stop or ()),
            response_format=response_format(json_schema, regex, choice, grammar),
            logprobs=logprobs,
            request_timeout=timeout,
            cancellation=token,
            traceparent=traceparent,
            tracestate=tracestate,
        )
        text = _standard_input() if prompt == "-" else prompt
        with load_with_bars(
            screen,
            model,
            options=engine_options,
            exporters=exporter or None,
            cancellation=token,
        ) as engine:
            stream: TokenStream | ChatStream
            if chat or system is not None:
                client = engine.chat(system)
                note_guess(screen, client)
                stream = client.stream(text, options=options)
            else:
                stream = engine.stream(text, options=options)
            result = finished(stream, None if as_json else screen.write)
            code = exit_code_of(result)
            if as_json:
                emit(result_document(result))
            else:
                _close(screen, result, code)
                if stats or logprobs is not None:
                    _show_details(screen, engine, result, stats=stats)
    return code


def _standard_input() -> str:
    try:
        text = sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(
            ReasonCode.OPTION_INVALID,
            f"the prompt on standard input is not UTF-8: {error.reason} at byte {error.start}",
            hint="convert it to UTF-8 first",
        ) from error
    return text.removesuffix("\n")


def _close(screen: Screen, result: GenerationResult, code: ExitCode) -> None:
    if not result.text.endswith("\n"):
        screen.write("\n")
    if code is not ExitCode.OK:
        tokens = result.usage.completion_tokens
        screen.note(f"stopped after {tokens} tokens: {result.stop_reason.value}", "yellow")
    outcome = result.structured
    if outcome is not None and not outcome.complete:
        screen.note(
            f"the answer is no whole {outcome.format}: {outcome.cut_by} cut it short", "yellow"
        )


def _show_details(screen: Screen, engine: Engine, result: GenerationResult, *, stats: bool) -> None:
    grids = []
    if result.logprobs is not None:
        grids.append(logprob_grid(result.logprobs, lambda token: engine.detokenize([token])))
    if stats:
        loaded = engine.model
        grids.append(ledger_grid(result.timings, loaded.load_phases, loaded.load_s))
        grids.append(request_facts(result))
    screen.note("")
    screen.show_all(grids, diagnostic=True)
