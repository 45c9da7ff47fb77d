"""``smallmind chat`` on a terminal of its own: what a person sees, types and presses."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engines import TINY
from tiny_models import write_tiny_model

TIMEOUT_S = 120.0
PRESS_S = 5.0
PRESSES = 4
CTRL_C, CTRL_D = "\x03", "\x04"
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Terminal:
    """A process on a pseudo-terminal, and the person in front of it."""

    def __init__(self, *arguments: str | Path) -> None:
        import fcntl
        import termios

        self.keyboard, screen = os.openpty()
        self.seen = ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "smallmind", *map(str, arguments)],
            stdin=screen,
            stdout=screen,
            stderr=screen,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - no threads here
            env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"},
        )
        os.close(screen)

    def until(self, pattern: str) -> re.Match[str]:
        """Read until ``pattern`` is seen; what came before it is forgotten."""
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            found = re.search(pattern, self.seen, re.DOTALL)
            if found:
                self.seen = self.seen[found.end() :]
                return found
            ready, _, _ = select.select([self.keyboard], [], [], deadline - time.monotonic())
            assert ready, f"{pattern!r} did not come; this did: {self.seen[-2000:]!r}"
            try:
                self.seen += ESCAPE.sub("", os.read(self.keyboard, 4096).decode(errors="replace"))
            except OSError:  # the process has gone
                pytest.fail(f"{pattern!r} did not come before the end: {self.seen[-2000:]!r}")

    def type(self, text: str) -> None:
        os.write(self.keyboard, text.encode())

    def turn(self, text: str) -> str:
        """Say something; answers with what was shown until the next prompt."""
        self.type(text + "\n")
        return self.until(r"(.*)\n>>> ")[1]

    def interrupt(self, pattern: str) -> None:
        """Press Ctrl-C at a prompt until ``pattern`` is seen.

        Python's line editing sleeps through a signal that comes just before it begins to wait.
        """
        for _ in range(PRESSES):
            self.type(CTRL_C)
            if select.select([self.keyboard], [], [], PRESS_S)[0]:
                break
        self.until(pattern)

    def close(self) -> int:
        try:
            return self.process.wait(TIMEOUT_S)
        finally:
            os.close(self.keyboard)


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    opened: list[Terminal] = []
    yield opened
    for terminal in opened:
        if terminal.process.poll() is None:
            terminal.process.kill()
            terminal.process.wait()


@pytest.fixture
def tiny_terminal(terminals: list[Terminal], tmp_path: Path) -> Terminal:
    path = write_tiny_model(tmp_path / "tiny.gguf", TINY)
    store = tmp_path / "chats.sqlite3"
    more = ("--temperature", "0", "--max-tokens", "6", "--store", store)
    terminals.append(Terminal("chat", path, *more))
    return terminals[-1]


def test_a_chat_on_a_terminal(tiny_terminal: Terminal) -> None:
    terminal = tiny_terminal
    terminal.until(r"/help lists the commands.*>>> ")
    assert "/regenerate" in terminal.turn("/help")
    terminal.turn("one")
    terminal.type('"""two\n')
    terminal.until(r"\.\.\. ")
    terminal.type('lines\n"""\n')
    terminal.until(r"\n>>> ")
    terminal.type("more\\\n")
    terminal.until(r"\.\.\. ")
    terminal.turn("to say")
    stats = terminal.turn("/stats")
    assert re.search(r"turns +3", stats)
    assert re.search(r"KV reuse +[1-9]", stats)
    assert "kept as mine" in terminal.turn("/save mine")
    assert "mine: 3 turns" in terminal.turn("/load mine")
    assert "taken back: more" in terminal.turn("/undo")
    terminal.interrupt(r"Ctrl-C again.*>>> ")
    terminal.type("/exit\n")
    assert terminal.close() == 0


def test_control_d_leaves(tiny_terminal: Terminal) -> None:
    tiny_terminal.until(r">>> ")
    tiny_terminal.type(CTRL_D)
    assert tiny_terminal.close() == 0


@pytest.mark.model
def test_a_conversation_of_three_turns_computes_only_what_is_new(
    smollm2_path: Path, terminals: list[Terminal]
) -> None:
    terminal = Terminal("chat", smollm2_path, "--temperature", "0", "--max-tokens", "24")
    terminals.append(terminal)
    terminal.until(r"/help lists the commands.*>>> ")
    counts = []
    for text in ("Hello! My name is Ada.", "What is two and two?", "Tell me a joke."):
        assert len(terminal.turn(text)) > 5
        stats = terminal.turn("/stats")
        found = re.search(r"prefilled +(\d+) of (\d+) prompt tokens", stats)
        assert found is not None
        counts.append((int(found[1]), int(found[2])))
        assert "prefill" in stats
        assert "tok/s" in stats
    (first, first_all), (second, second_all), (third, third_all) = counts
    assert first == first_all
    assert second_all > first_all + 24
    assert third_all > second_all + 24
    assert second < 25, "the new turn and the token that ends the answer before"
    assert third < 25
    terminal.type("/exit\n")
    assert terminal.close() == 0


@pytest.mark.model
def test_control_c_stops_the_answer_and_keeps_what_was_said(
    smollm2_path: Path, terminals: list[Terminal]
) -> None:
    terminal = Terminal("chat", smollm2_path, "--temperature", "0", "--max-tokens", "2000")
    terminals.append(terminal)
    terminal.until(r"/help lists the commands.*>>> ")
    terminal.type("Write a long story about a lighthouse.\n")
    terminal.until(r"lighthouse\.\s+\w+ \w+ \w+ \w+")
    terminal.type(CTRL_C)
    terminal.until(r"stopped: CANCELLED_BY_CALLER; what it said is kept.*>>> ")
    stats = terminal.turn("/stats")
    assert "CANCELLED_BY_CALLER" in stats
    assert re.search(r"turns +1", stats)
    terminal.type(CTRL_D)
    assert terminal.close() == 0
