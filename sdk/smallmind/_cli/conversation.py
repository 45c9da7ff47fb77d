"""A chat in a terminal: reads turns and commands, and shows answers until the user leaves."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from smallmind._chat import ChatClient
from smallmind._chat_result import ChatResult, ChatStream
from smallmind._cli.blocks import Grid, facts
from smallmind._cli.exit_codes import ExitCode, exit_code_of
from smallmind._cli.failures import tell
from smallmind._cli.formatting import share_text
from smallmind._cli.interrupts import interruptible
from smallmind._cli.request_views import ledger_grid, request_facts
from smallmind._cli.requests import finished
from smallmind._cli.screen import Screen
from smallmind._cli.typed_input import line_reader, read_message
from smallmind._stores import ChatStore
from smallmind_engine.control import CancellationToken
from smallmind_engine.runtime import GenerationOptions
from smallmind_engine.telemetry import SmallMindError

_COMMAND: Final = re.compile(r"/([a-z]+|\?)(?:\s+(.*))?", re.DOTALL)
_HELLO: Final = "/help lists the commands, Ctrl-C stops an answer, Ctrl-D leaves"
_HOW_TO_TYPE: Final = (
    '  a line that ends with \\ goes on in the next; """ begins and ends a longer text;\n'
    "  // at the beginning stands for a / that is no command"
)


@dataclass(frozen=True, slots=True)
class Desk:
    """Where conversations come from and go to.

    Attributes:
        opened: a conversation by its name in the store; a new one for None.
        store: made when it is first needed.
    """

    opened: Callable[[str | None], ChatClient]
    store: Callable[[], ChatStore]


@dataclass(frozen=True, slots=True)
class _Command:
    """A command: what it does, and the line of help."""

    act: Callable[[str], ExitCode | None]
    argument: str
    about: str


class Conversation:
    """Reads turns and shows answers.

    Args:
        screen: shows them.
        client: answers.
        options: of each turn.
        interactive: whether a person types; then a turn that fails does not end the chat.
        desk: for ``/save`` and ``/load``.
    """

    def __init__(
        self,
        screen: Screen,
        client: ChatClient,
        options: GenerationOptions,
        *,
        interactive: bool,
        desk: Desk,
    ) -> None:
        self._screen = screen
        self._client = client
        self._options = options
        self._interactive = interactive
        self._desk = desk
        self._read_line = line_reader(typed=interactive, shown=screen.fancy)
        self._commands: dict[str, _Command] = {
            "stats": _Command(self._stats, "", "where the time of the last answer went"),
            "regenerate": _Command(self._regenerate, "", "answer the last turn anew"),
            "undo": _Command(self._undo, "", "take the last turn back"),
            "system": _Command(self._system, "[TEXT]", "show or change the instructions"),
            "save": _Command(self._save, "[NAME]", "keep the conversation"),
            "load": _Command(self._load, "NAME", "take up a conversation that was kept"),
            "chats": _Command(self._chats, "", "list the conversations that were kept"),
            "clear": _Command(self._clear, "", "begin anew; the instructions stay"),
            "help": _Command(self._help, "", "this list"),
            "exit": _Command(lambda _: ExitCode.OK, "", "leave; so do /quit and /bye"),
        }
        others = {"?": "help", "quit": "exit", "bye": "exit"}
        self._by_name = {
            **self._commands,
            **{name: self._commands[same] for name, same in others.items()},
        }

    def run(self) -> ExitCode:
        """Talk; answers with the exit code."""
        if self._interactive:
            self._screen.note(_HELLO)
            with contextlib.suppress(ImportError):  # not on every platform; gives line editing
                import readline  # noqa: F401
        interrupted = False
        try:
            while True:
                try:
                    text = read_message(self._read_line)
                except EOFError:
                    return ExitCode.OK
                except KeyboardInterrupt:
                    self._screen.note("")
                    if interrupted or not self._interactive:
                        return ExitCode.INTERRUPTED
                    self._screen.note("Ctrl-C again, Ctrl-D or /exit leaves")
                    interrupted = True
                    continue
                interrupted = False
                code = self._act(text.strip())
                if code is not None:
                    return code
        finally:
            self._client.close()

    def _act(self, text: str) -> ExitCode | None:
        """Do what a message asks for; answers with an exit code when the chat is over."""
        written = _COMMAND.fullmatch(text)
        if written is not None:
            command = self._by_name.get(written[1])
            if command is None:
                self._screen.note(f"there is no command /{written[1]}; /help lists them", "yellow")
                return None
            return self._guarded(lambda: command.act((written[2] or "").strip()))
        said = text.removeprefix("/") if text.startswith("//") else text
        return self._turn(lambda token: self._streamed(said, token)) if said else None

    def _guarded(self, act: Callable[[], ExitCode | None]) -> ExitCode | None:
        """Do it; an error of ours is told, and ends a pipe's chat."""
        try:
            return act()
        except SmallMindError as error:
            code = tell(error)
        return None if self._interactive else code

    # -- turns --------------------------------------------------------------------------------

    def _streamed(self, text: str, token: CancellationToken) -> ChatStream:
        return self._client.stream(text, options=self._options, cancellation=token)

    def _turn(self, ask: Callable[[CancellationToken], ChatStream]) -> ExitCode | None:
        def turn() -> ExitCode | None:
            result = self._answer(ask)
            code = exit_code_of(result)
            if code is ExitCode.OK:
                return None
            kept = "" if result.turn is None else "; what it said is kept"
            self._screen.note(f"stopped: {result.stop_reason.value}{kept}", "yellow")
            return None if self._interactive else code

        return self._guarded(turn)

    def _answer(self, ask: Callable[[CancellationToken], ChatStream]) -> ChatResult:
        with interruptible() as token:
            result = finished(ask(token), self._screen.write)
        self._screen.write("\n")
        if not isinstance(result, ChatResult):  # pragma: no cover - a chat's stream has no other
            raise TypeError
        if result.left_out_turns:
            self._screen.note(f"the oldest {result.left_out_turns} turns no longer fit: left out")
        return result

    def _regenerate(self, _: str) -> ExitCode | None:
        last = self._client.turns - 1
        text = self._client.said(last)
        return self._turn(
            lambda token: self._client.stream(
                text, replace=last, options=self._options, cancellation=token
            )
        )

    def _undo(self, _: str) -> None:
        self._screen.note(f"taken back: {self._client.undo()}")

    def _clear(self, _: str) -> None:
        self._client.clear()
        self._screen.note("nothing was said yet")

    # -- about it -----------------------------------------------------------------------------

    def _help(self, _: str) -> None:
        names = {f"/{name} {each.argument}": each.about for name, each in self._commands.items()}
        widest = max(map(len, names))
        self._screen.note("\n".join(f"  {name:<{widest}} {about}" for name, about in names.items()))
        self._screen.note(_HOW_TO_TYPE)

    def _stats(self, _: str) -> None:
        result = self._client.last_result
        if result is None:
            self._screen.note("there was no answer yet")
            return
        self._screen.show_all(
            [
                ledger_grid(result.timings),
                request_facts(result),
                conversation_facts(self._client, result),
            ]
        )

    def _system(self, text: str) -> None:
        if text:
            self._client.system = text
        self._screen.note(f"instructions: {self._client.system or 'none'}")

    # -- keeping ------------------------------------------------------------------------------

    def _save(self, name: str) -> None:
        name = name or self._client.session_id
        self._client.save(self._desk.store(), name)
        self._screen.note(f"kept as {name}; /load {name} takes it up again")

    def _load(self, name: str) -> None:
        if not name:
            self._chats("")
            return
        if self._desk.store().load(name) is None:
            self._screen.note(f"nothing was kept as {name}; /chats lists what was", "yellow")
            return
        client = self._desk.opened(name)
        self._client.close()
        self._client = client
        self._screen.note(f"{name}: {client.turns} turns; new ones are kept as they come")

    def _chats(self, _: str) -> None:
        chats = self._desk.store().chats()
        if not chats:
            self._screen.note("nothing was kept yet")
        for chat in chats:
            self._screen.line(f"{chat.session_id}  {chat.turns} turns  {chat.title}")


def conversation_facts(client: ChatClient, result: ChatResult) -> Grid:
    """What the last answer owes to those before it."""
    usage, prefilled = result.usage, result.timings.prefill_tokens
    reused = usage.cached_tokens / usage.prompt_tokens if usage.prompt_tokens else 0.0
    return facts(
        "Conversation",
        (
            ("turns", str(client.turns)),
            ("prefilled", f"{prefilled} of {usage.prompt_tokens} prompt tokens"),
            ("KV reuse", f"{usage.cached_tokens} tokens, {share_text(reused)}"),
            ("left out", f"{result.left_out_turns} turns"),
            ("template", f"{result.template} ({client.template.origin.value})"),
        ),
    )
