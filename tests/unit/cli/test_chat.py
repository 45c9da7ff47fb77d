"""``smallmind chat``: what is read from a pipe, and what a person types."""

from __future__ import annotations

import signal

import pytest

import smallmind
from smallmind import GenerationOptions
from smallmind._cli.commands import chat as command
from smallmind._cli.commands.chat import Conversation
from smallmind._cli.exit_codes import ExitCode
from smallmind._cli.screen import Screen
from tiny_models import TinyModel, write_tiny_model

GREEDY = ("--temperature", "0", "--max-tokens", "4")
OPTIONS = GenerationOptions(temperature=0.0, max_tokens=4)


@pytest.fixture
def engine(tiny_path):
    with smallmind.load(tiny_path, exporters=()) as engine:
        yield engine


@pytest.fixture
def typed(engine, monkeypatch, capsys):
    """Talks as a person who types these lines; an exception stands for a key."""

    def talk(*lines: str | type[BaseException]) -> tuple[ExitCode, str, str]:
        left = iter(lines)

        def read(_prompt: str) -> str:
            line = next(left)
            if isinstance(line, str):
                return line
            raise line

        monkeypatch.setattr("builtins.input", read)
        with engine.chat() as client:
            code = Conversation(Screen.open(), client, OPTIONS, interactive=True).run()
        return code, *capsys.readouterr()

    return talk


def test_each_line_of_a_pipe_is_a_turn(cli, engine):
    ran = cli("chat", "MODEL", *GREEDY, "--system", "Be brief.", stdin="one\n\ntwo\n")
    with engine.chat("Be brief.") as client:
        answers = [client.send(text, options=OPTIONS).text for text in ("one", "two")]
    assert ran.exit_code == 0
    assert ran.stdout == "".join(f"{answer}\n" for answer in answers)
    assert ran.stderr == ""


def test_quit_leaves(cli):
    ran = cli("chat", "MODEL", *GREEDY, stdin="/quit\nnot said\n")
    assert (ran.exit_code, ran.stdout) == (0, "")


def test_stats_show_the_last_answer(cli):
    ran = cli("chat", "MODEL", *GREEDY, stdin="/stats\nhello\n/stats\n")
    assert "there was no answer yet" in ran.stderr
    assert "Time ledger" in ran.stdout
    assert "session id" in ran.stdout


def test_a_turn_of_a_pipe_that_fails_ends_the_chat(cli):
    ran = cli("chat", "MODEL", *GREEDY, stdin="x " * 300 + "\nhello\n")
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert "[CONTEXT_OVERFLOW]" in ran.stderr


def test_a_model_without_a_chat_format_is_told(cli, tmp_path):
    path = write_tiny_model(tmp_path / "base.gguf", TinyModel("llama", chat_template=None))
    ran = cli("chat", str(path), stdin="hello\n")
    assert ran.exit_code == 2
    assert "[CHAT_TEMPLATE_MISSING]" in ran.stderr


def test_a_person_is_told_the_commands(typed):
    code, _, err = typed("/help", EOFError)
    assert code is ExitCode.OK
    assert err.count("/quit") == 2


def test_a_turn_that_fails_does_not_end_a_persons_chat(typed):
    code, out, err = typed("x " * 300, "hello", EOFError)
    assert code is ExitCode.OK
    assert "[CONTEXT_OVERFLOW]" in err
    assert out.endswith("\n")


def test_ctrl_c_at_the_prompt_twice_leaves(typed):
    code, _, err = typed(KeyboardInterrupt, "/stats", KeyboardInterrupt, KeyboardInterrupt)
    assert code is ExitCode.INTERRUPTED
    assert err.count("Ctrl-C again") == 2


def test_ctrl_c_stops_the_answer_and_keeps_its_text(engine, typed, monkeypatch):
    finished = command.finished
    results = []

    def pressed(stream, write):
        def interrupt(text: str) -> None:
            write(text)
            signal.raise_signal(signal.SIGINT)

        results.append(finished(stream, interrupt if not results else write))
        return results[-1]

    monkeypatch.setattr(command, "finished", pressed)
    monkeypatch.setattr(command, "interruptible", at_once)
    code, out, err = typed("hello", "go on", EOFError)
    assert code is ExitCode.OK
    assert "stopped: CANCELLED_BY_CALLER" in err
    stopped, answered = results
    assert 0 < len(stopped.token_ids) < 4
    assert out.startswith(stopped.text)
    assert answered.usage.prompt_tokens > stopped.usage.prompt_tokens


def at_once():
    """``interruptible``, but the signal has its effect before the next step, always."""
    import contextlib

    @contextlib.contextmanager
    def manager():
        token = smallmind.CancellationToken()
        before = signal.signal(signal.SIGINT, lambda *_: token.cancel())
        try:
            yield token
        finally:
            signal.signal(signal.SIGINT, before)

    return manager()


def test_ctrl_c_at_a_pipe_ends_the_chat(engine, monkeypatch):
    def interrupted() -> str:
        raise KeyboardInterrupt

    with engine.chat() as client:
        talk = Conversation(Screen.open(), client, OPTIONS, interactive=False)
        monkeypatch.setattr(talk, "_read", interrupted)
        assert talk.run() is ExitCode.INTERRUPTED
