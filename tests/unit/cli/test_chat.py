"""``smallmind chat``: what is read from a pipe, and what a person types."""

from __future__ import annotations

import io
import re
import signal

import pytest

import smallmind
from smallmind import ChatOptions, GenerationOptions
from smallmind._cli import conversation as module
from smallmind._cli.commands.chat import _default_path, desk_of
from smallmind._cli.conversation import Conversation
from smallmind._cli.exit_codes import ExitCode
from smallmind._cli.screen import Screen
from smallmind._cli.typed_input import CONTINUED, PROMPT, line_reader, read_message
from tiny_models import TinyModel, write_tiny_model

GREEDY = ("--temperature", "0", "--max-tokens", "4")
OPTIONS = GenerationOptions(temperature=0.0, max_tokens=4)


@pytest.fixture
def engine(tiny_path):
    with smallmind.load(tiny_path, exporters=()) as engine:
        yield engine


@pytest.fixture
def desk(engine, tmp_path):
    return desk_of(engine, ChatOptions(), tmp_path / "chats.sqlite3")


@pytest.fixture
def typed(desk, monkeypatch, capsys):
    """Talks as a person who types these lines; an exception stands for a key."""

    def talk(*lines: str | type[BaseException]) -> tuple[ExitCode, str, str]:
        left = iter(lines)

        def read(_prompt: str) -> str:
            line = next(left)
            if isinstance(line, str):
                return line
            raise line

        talk = Conversation(Screen.open(), desk.opened(None), OPTIONS, interactive=True, desk=desk)
        monkeypatch.setattr(talk, "_read_line", read)
        code = talk.run()
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


def test_a_guessed_chat_format_is_told(cli, tmp_path):
    path = write_tiny_model(tmp_path / "base.gguf", TinyModel("llama", chat_template=None))
    ran = cli("chat", str(path), *GREEDY, stdin="hello\n")
    assert ran.exit_code == 0
    assert "has no chat template; chatml is used" in ran.stderr
    named = cli("chat", str(path), *GREEDY, "--template", "llama2", stdin="hello\n/stats\n")
    assert named.stderr == ""
    assert "llama2 (caller)" in named.stdout


def test_a_person_is_told_the_commands(typed):
    code, _, err = typed("/help", EOFError)
    assert code is ExitCode.OK
    assert "Ctrl-D leaves" in err
    assert "/regenerate" in err
    assert "/save [NAME]" in err


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
    finished = module.finished
    results = []

    def pressed(stream, write):
        def interrupt(text: str) -> None:
            write(text)
            signal.raise_signal(signal.SIGINT)

        results.append(finished(stream, interrupt if not results else write))
        return results[-1]

    monkeypatch.setattr(module, "finished", pressed)
    monkeypatch.setattr(module, "interruptible", at_once)
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


def test_ctrl_c_at_a_pipe_ends_the_chat(desk, monkeypatch):
    def interrupted(_prompt: str) -> str:
        raise KeyboardInterrupt

    talk = Conversation(Screen.open(), desk.opened(None), OPTIONS, interactive=False, desk=desk)
    monkeypatch.setattr(talk, "_read_line", interrupted)
    assert talk.run() is ExitCode.INTERRUPTED


# -- messages over several lines ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["one"], "one"),
        (["one \\", "two\\", "three"], "one \ntwo\nthree"),
        (["one \\"], "one \n"),
        (['"""', "one", "", "two", '"""'], "one\n\ntwo"),
        (['"""one', 'two"""'], "one\ntwo"),
        (['"""one"""'], "one"),
        (['"""', "one"], "one"),
    ],
)
def test_a_message_may_have_several_lines(lines, message):
    prompts = []
    left = iter(lines)

    def read(prompt):
        prompts.append(prompt)
        line = next(left, None)
        if line is None:
            raise EOFError
        return line

    assert read_message(read) == message
    assert prompts == [PROMPT, *[CONTINUED] * (len(prompts) - 1)]


def test_the_prompt_does_not_go_where_the_answers_go(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("one\ntwo"))
    read = line_reader(typed=True, shown=False)
    assert [read(">>> "), read(">>> ")] == ["one", "two"]
    with pytest.raises(EOFError):
        read(">>> ")
    assert capsys.readouterr() == ("", ">>> " * 3)
    assert line_reader(typed=True, shown=True) is input


def test_a_pipe_may_send_several_lines_at_once(cli, engine):
    ran = cli("chat", "MODEL", *GREEDY, stdin='"""\none\ntwo\n"""\n')
    with engine.chat() as client:
        assert ran.stdout == client.send("one\ntwo", options=OPTIONS).text + "\n"


# -- commands ----------------------------------------------------------------------------------


def test_an_unknown_command_is_not_said_to_the_model(typed):
    _, out, err = typed("/nonsense", "/stats", EOFError)
    assert "there is no command /nonsense" in err
    assert "there was no answer yet" in err
    assert out == ""


@pytest.mark.parametrize("text", ["//help me", "/usr/bin is a folder", "/Help"])
def test_a_slash_that_is_no_command_is_said(typed, text):
    _, out, err = typed(text, EOFError)
    assert out.endswith("\n")
    assert "no command" not in err


def test_stats_tell_of_the_cache(typed):
    _, out, _ = typed("one", "two", "/stats", EOFError)
    assert "Conversation" in out
    prefilled = re.search(r"prefilled +(\d+) of (\d+) prompt tokens", out)
    reused = re.search(r"KV reuse +(\d+) tokens", out)
    assert int(prefilled[1]) + int(reused[1]) == int(prefilled[2])
    assert int(reused[1]) > 0
    assert re.search(r"turns +2", out)


def test_the_last_turn_can_be_answered_anew_and_taken_back(typed):
    _, out, err = typed("one", "/regenerate", "/undo", "/undo", "/regenerate", EOFError)
    first, second, *_ = out.split("\n")
    assert first == second
    assert "taken back: one" in err
    assert err.count("nothing was said yet") == 2


def test_instructions_are_shown_and_changed(typed):
    _, _, err = typed("/system", "/system Be brief.\nVery.", "/clear", "/system", EOFError)
    assert "instructions: none" in err
    assert err.count("instructions: Be brief.") == 2


def test_a_conversation_is_saved_and_taken_up(typed, desk):
    _, _, err = typed(
        "/chats", "one", "/save mine", "/clear", "/load mine", "two", "/load", "/load no", EOFError
    )
    assert "nothing was kept yet" in err
    assert "kept as mine" in err
    assert "mine: 1 turns" in err
    assert "nothing was kept as no" in err
    stored = desk.store().load("mine")
    assert [turn.messages[0]["content"] for turn in stored.turns] == ["one", "two"]


def test_a_named_session_goes_on_the_next_time(cli, tmp_path):
    kept = ("--session", "mine", "--store", str(tmp_path / "new" / "chats.sqlite3"))
    first = cli("chat", "MODEL", *GREEDY, *kept, stdin="one\n")
    assert first.stderr == ""
    second = cli("chat", "MODEL", *GREEDY, *kept, stdin="two\n/stats\n/chats\n")
    assert "mine: 1 turns" in second.stderr
    assert re.search(r"turns +2", second.stdout)
    assert "mine  2 turns  one" in second.stdout


def test_a_long_chat_leaves_out_its_oldest_turns_and_says_so(cli):
    lines = ("word " * 9 + "\n") * 6
    ran = cli("chat", "MODEL", *GREEDY, stdin=lines)
    assert ran.exit_code == 0
    assert "turns no longer fit: left out" in ran.stderr
    refused = cli("chat", "MODEL", *GREEDY, "--history", "full", stdin=lines)
    assert refused.exit_code == 2
    assert "[CONTEXT_OVERFLOW]" in refused.stderr


def test_an_error_of_the_store_ends_a_pipes_chat(cli, tmp_path):
    ran = cli("chat", "MODEL", *GREEDY, "--store", str(tmp_path), stdin="one\n/save\nhello\n")
    assert ran.exit_code == 2
    assert "[CHAT_STORE_FAILED]" in ran.stderr


def test_without_a_path_conversations_are_in_the_users_data_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert _default_path().parts[-2:] == ("smallmind", "chats.sqlite3")
