"""The corpus of hostile templates: nothing of them executes, and each is a clear error."""

from __future__ import annotations

import os
import sys
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import pytest

from engines import tiny_engine
from smallmind._chat_template import reads_variable, render_chat
from smallmind._template_sandbox import TemplateLimits
from smallmind_engine.telemetry import ChatTemplateError, ReasonCode
from template_attacks import ESCAPES, EXHAUSTIONS, PROOF, Attack
from tiny_models import TinyModel

QUICK = TemplateLimits(seconds=0.3)
ALLOWED_S = 5.0  # far above QUICK, for machines under load; an unbounded template takes hours
ALLOWED_BYTES = 200 << 20

# What a program does that leaves the interpreter, or gets more code into it.
FORBIDDEN = (
    *("os.system", "os.exec", "os.posix_spawn", "os.fork", "os.listdir", "subprocess.Popen"),
    *("open", "import", "socket.connect", "ctypes.dlopen", "shutil.rmtree", "pty.spawn"),
)
PARSING = [attack for attack in EXHAUSTIONS if attack.known_from == "parser recursion"]
RUNNING = [attack for attack in EXHAUSTIONS if attack not in PARSING]
RECURSIVE = next(attack for attack in EXHAUSTIONS if attack.name == "recursive-macro")
_watched: ContextVar[list[str] | None] = ContextVar("watched", default=None)


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    seen = _watched.get()
    if seen is not None and event in FORBIDDEN:
        seen.append(f"{event} {arguments!r:.200}")


sys.addaudithook(_audit)


@contextmanager
def watched() -> Iterator[list[str]]:
    """What happens inside the block that a template must never bring about."""
    seen: list[str] = []
    reset = _watched.set(seen)
    try:
        yield seen
    finally:
        _watched.reset(reset)


def render(template: str) -> str:
    return render_chat(
        template,
        [{"role": "user", "content": "x"}],
        bos_token="",
        eos_token="",
        add_generation_prompt=True,
        limits=QUICK,
    )


@pytest.fixture(scope="module", autouse=True)
def everything_is_imported() -> None:
    """What a first rendering imports is not an attack's doing."""
    with pytest.raises(ChatTemplateError):
        render("{{ nothing.at.all }}")
    render("{{ 1 }}")


def test_the_watch_sees_what_it_must_see(tmp_path: Path) -> None:
    with watched() as seen:
        os.system("true")  # noqa: S605 - what the watch is for
        (tmp_path / "x").write_text("y")
    assert [line.split()[0] for line in seen] == ["os.system", "open"]


@pytest.mark.parametrize("attack", ESCAPES, ids=[attack.name for attack in ESCAPES])
def test_an_escape_executes_nothing_and_is_a_clear_error(
    attack: Attack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with watched() as seen, pytest.raises(ChatTemplateError) as caught:
        render(attack.template)
    assert seen == []
    assert not (tmp_path / PROOF).exists()
    assert caught.value.reason is ReasonCode.CHAT_TEMPLATE_INVALID
    assert "chat template" in str(caught.value)


@pytest.mark.parametrize("attack", RUNNING, ids=[attack.name for attack in RUNNING])
def test_an_exhaustion_ends_in_time_and_memory(attack: Attack) -> None:
    tracemalloc.start()
    begun = time.perf_counter()
    try:
        with watched() as seen, pytest.raises(ChatTemplateError) as caught:
            render(attack.template)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert seen == []
    assert caught.value.reason is ReasonCode.CHAT_TEMPLATE_INVALID
    assert time.perf_counter() - begun < ALLOWED_S
    assert peak_bytes < ALLOWED_BYTES


@pytest.mark.parametrize("attack", PARSING, ids=[attack.name for attack in PARSING])
def test_a_source_that_exhausts_the_parser_is_refused_in_time(attack: Attack) -> None:
    begun = time.perf_counter()
    with pytest.raises(ChatTemplateError) as caught:
        render(attack.template)
    assert caught.value.reason is ReasonCode.CHAT_TEMPLATE_INVALID
    assert reads_variable(attack.template, "tools") is False
    assert time.perf_counter() - begun < ALLOWED_S


def test_names_are_one_each() -> None:
    names = [attack.name for attack in (*ESCAPES, *EXHAUSTIONS)]
    assert len(set(names)) == len(names) > 100


@pytest.mark.parametrize("attack", [ESCAPES[0], RECURSIVE], ids=["escape", "exhaustion"])
def test_a_model_file_with_a_hostile_template_harms_nothing(
    attack: Attack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with tiny_engine(tmp_path, TinyModel(chat_template=attack.template)) as engine:
        chat = engine.chat()
        with pytest.raises(ChatTemplateError):
            chat.send("hello", max_tokens=1)
        assert chat.messages == ()
        assert engine.generate("hello", max_tokens=1).token_ids
    assert not (tmp_path / PROOF).exists()
