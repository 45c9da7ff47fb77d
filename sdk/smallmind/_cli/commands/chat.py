"""``smallmind chat``."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import Final

from smallmind._chat import ChatClient
from smallmind._cli.exit_codes import ExitCode, exit_code_of
from smallmind._cli.failures import tell
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
from smallmind._cli.request_views import ledger_grid, request_facts
from smallmind._cli.requests import finished, load_with_bars
from smallmind._cli.screen import Screen
from smallmind_engine.runtime import EngineOptions, GenerationOptions, GenerationResult
from smallmind_engine.telemetry import SmallMindError

_PROMPT: Final = ">>> "
_LEAVE: Final = frozenset({"/quit", "/exit", "/bye"})
_HELP: Final = "/stats shows where the time went, /quit or Ctrl-D leaves, Ctrl-C stops an answer"


def chat(
    model: Model,
    *,
    system: System = None,
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
    """Talk to a model. /stats shows where the time went, /quit leaves, Ctrl-C stops an answer."""
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
    with engine, engine.chat(system) as client:
        return Conversation(screen, client, options, interactive=sys.stdin.isatty()).run()


class Conversation:
    """Reads turns and shows answers until the user leaves.

    Args:
        screen: shows them.
        client: answers.
        options: of each turn.
        interactive: whether a person types; then a turn that fails does not end the chat.
    """

    def __init__(
        self,
        screen: Screen,
        client: ChatClient,
        options: GenerationOptions,
        *,
        interactive: bool,
    ) -> None:
        self._screen = screen
        self._client = client
        self._options = options
        self._interactive = interactive
        self._last: GenerationResult | None = None
        self._commands: dict[str, Callable[[], None]] = {
            "/stats": self._show_stats,
            "/help": self._show_help,
            "/?": self._show_help,
        }

    def run(self) -> ExitCode:
        """Talk; answers with the exit code."""
        if self._interactive:
            self._show_help()
            with contextlib.suppress(ImportError):  # not on every platform; gives line editing
                import readline  # noqa: F401
        interrupted = False
        while True:
            try:
                text = self._read()
            except EOFError:
                return ExitCode.OK
            except KeyboardInterrupt:
                self._screen.note("")
                if interrupted or not self._interactive:
                    return ExitCode.INTERRUPTED
                self._screen.note("Ctrl-C again, Ctrl-D or /quit leaves")
                interrupted = True
                continue
            interrupted = False
            code = self._act(text.strip())
            if code is not None:
                return code

    def _read(self) -> str:
        """The next line; typed ones get a prompt."""
        if self._interactive:
            return input(_PROMPT)
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return line

    def _act(self, text: str) -> ExitCode | None:
        """Do what a line asks for; answers with an exit code when the chat is over."""
        if text in _LEAVE:
            return ExitCode.OK
        if text in self._commands:
            self._commands[text]()
        elif text:
            return self._turn(text)
        return None

    def _turn(self, text: str) -> ExitCode | None:
        try:
            self._last = result = self._answer(text)
        except SmallMindError as error:
            code = tell(error)
        else:
            code = exit_code_of(result)
            if code is ExitCode.OK:
                return None
            self._screen.note(f"stopped: {result.stop_reason.value}", "yellow")
        return None if self._interactive else code

    def _answer(self, text: str) -> GenerationResult:
        with interruptible() as token:
            result = finished(
                self._client.stream(text, options=self._options, cancellation=token),
                self._screen.write,
            )
        self._screen.write("\n")
        return result

    def _show_help(self) -> None:
        self._screen.note(_HELP)

    def _show_stats(self) -> None:
        if self._last is None:
            self._screen.note("there was no answer yet")
            return
        self._screen.show_all([ledger_grid(self._last.timings), request_facts(self._last)])
