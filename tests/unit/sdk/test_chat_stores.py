"""Stores: what every one promises, and what the file keeps through kills, forks and years."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines import tiny_engine
from smallmind import ChatOptions, Engine
from smallmind._stores.records import (
    ids_from_bytes,
    ids_to_bytes,
    messages_from_json,
    messages_to_json,
    title_of,
)
from smallmind._stores.schema import MIGRATIONS, VERSION, migrate
from smallmind.chat import (
    ChatHead,
    ChatStore,
    InMemoryChatStore,
    SQLiteChatStore,
    Trail,
    Turn,
    Window,
)
from smallmind_engine.telemetry import ChatTemplateError, ReasonCode
from smallmind_engine.telemetry.errors import ChatStoreError, ConfigError
from tiny_models import TinyModel

GREEDY = {"temperature": 0.0, "ignore_eos": True, "max_tokens": 4}
TRAIL = Trail(continues=True, token_ids=(1, 2, 70_000), text_chars=12, text_digest=b"digest")


def turn(text: str, trail: Trail | None = None) -> Turn:
    said: dict[str, object] = {"role": "user", "content": text}
    return Turn((said, {"role": "assistant", "content": text.upper()}), trail)


class Clock:
    """Seconds that go on by one with each look."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ChatStore:
    if request.param == "memory":
        return InMemoryChatStore(clock=Clock())
    return SQLiteChatStore(tmp_path / "new" / "chats.sqlite3", clock=Clock())


@pytest.fixture
def sqlite(tmp_path: Path) -> SQLiteChatStore:
    return SQLiteChatStore(tmp_path / "chats.sqlite3")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with tiny_engine(tmp_path) as engine:
        yield engine


# -- what every store promises -----------------------------------------------------------------


def test_what_was_written_is_read(store: ChatStore) -> None:
    head = ChatHead(
        session_id="a", system="s", window=Window(1, "sum"), model="m", model_fingerprint="f"
    )
    turns = (turn("one", TRAIL), turn("twö \U0001f600"))
    assert store.write(head, 0, turns, revision=0) == 1
    stored = store.load("a")
    assert stored is not None
    assert (stored.head, stored.turns, stored.revision) == (head, turns, 1)
    assert store.load("b") is None


def test_turns_are_added_replaced_and_taken_away(store: ChatStore) -> None:
    head = ChatHead(session_id="a")
    store.write(head, 0, (turn("one"), turn("two")), revision=0)
    store.write(head, 2, (turn("three"),), revision=1)
    store.write(head, 1, (turn("other"),), revision=2)
    stored = store.load("a")
    assert stored is not None
    assert stored.turns == (turn("one"), turn("other"))
    store.write(head, 0, (), revision=3)
    emptied = store.load("a")
    assert emptied is not None
    assert (emptied.turns, emptied.revision) == ((), 4)


def test_a_writer_who_has_not_read_the_last_word_is_refused(store: ChatStore) -> None:
    head = ChatHead(session_id="a")
    store.write(head, 0, (turn("one"),), revision=0)
    for revision in (0, 2):
        with pytest.raises(ChatStoreError) as caught:
            store.write(head, 0, (turn("lost"),), revision=revision)
        assert caught.value.reason is ReasonCode.CHAT_STORE_CONFLICT
    stored = store.load("a")
    assert stored is not None
    assert stored.turns == (turn("one"),)
    assert store.write(head, 0, (), revision=None) == 2


def test_conversations_are_listed_the_last_one_first(store: ChatStore) -> None:
    assert store.chats() == ()
    store.write(ChatHead(session_id="a", model="m"), 0, (turn("first\nline " * 9),), revision=0)
    store.write(ChatHead(session_id="b"), 0, (), revision=0)
    store.write(ChatHead(session_id="a", model="m"), 1, (turn("x"),), revision=1)
    listed = store.chats()
    assert [(chat.session_id, chat.turns, chat.model) for chat in listed] == [
        ("a", 2, "m"),
        ("b", 0, ""),
    ]
    assert listed[0].title.startswith("first line first")
    assert len(listed[0].title) == 60
    assert listed[0].updated_s > listed[1].updated_s


def test_a_conversation_can_be_taken_away(store: ChatStore) -> None:
    store.write(ChatHead(session_id="a"), 0, (turn("one"),), revision=0)
    assert store.delete("a")
    assert not store.delete("a")
    assert store.load("a") is None
    store.write(ChatHead(session_id="a"), 0, (), revision=0)
    stored = store.load("a")
    assert stored is not None
    assert stored.turns == ()


def test_what_is_read_is_a_copy(store: ChatStore) -> None:
    store.write(ChatHead(session_id="a"), 0, (turn("one"),), revision=0)
    first = store.load("a")
    assert first is not None
    first.turns[0].messages[0]["content"] = "changed"
    again = store.load("a")
    assert again is not None
    assert again.turns[0].messages[0]["content"] == "one"


def test_threads_may_write_at_once(store: ChatStore) -> None:
    def write(name: str) -> None:
        for number in range(5):
            head = ChatHead(session_id=name)
            store.write(head, number, (turn(f"{name}{number}"),), revision=number)

    threads = [threading.Thread(target=write, args=(f"chat{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted((chat.session_id, chat.turns) for chat in store.chats()) == [
        (f"chat{n}", 5) for n in range(4)
    ]


# -- conversations in a store ------------------------------------------------------------------


def test_a_conversation_is_taken_up_where_it_ended(tmp_path: Path, store: ChatStore) -> None:
    options = ChatOptions(session_id="a", store=store)
    with tiny_engine(tmp_path) as engine, engine.chat("Be brief.", options=options) as chat:
        chat.send("one", **GREEDY)
        second = chat.send("two", **GREEDY)
        said = chat.messages
    with tiny_engine(tmp_path) as engine, engine.chat(options=options) as again:
        assert again.messages == said
        there = again.send("three", **GREEDY)
    with tiny_engine(tmp_path) as engine, engine.chat("Be brief.") as other:
        for text in ("one", "two"):
            other.send(text, **GREEDY)
        here = other.send("three", **GREEDY)
    assert there.token_ids == here.token_ids
    assert there.usage.prompt_tokens == here.usage.prompt_tokens
    assert there.usage.cached_tokens == 0, "its cache is computed anew"
    assert here.usage.cached_tokens == second.usage.total_tokens - 1


def test_every_change_is_kept(engine: Engine, store: ChatStore) -> None:
    chat = engine.chat("Be brief.", options=ChatOptions(session_id="a", store=store))

    def kept() -> tuple[object, ...]:
        stored = store.load("a")
        assert stored is not None
        said = [each.messages[0]["content"] for each in stored.turns]
        return (stored.head.system, *said)

    chat.send("one", **GREEDY)
    assert kept() == ("Be brief.", "one")
    list(chat.stream("two", **GREEDY))
    assert kept() == ("Be brief.", "one", "two")
    chat.edit(0, "other", **GREEDY)
    assert kept() == ("Be brief.", "other")
    chat.system = "Be long."
    assert kept() == ("Be long.", "other")
    chat.undo()
    assert kept() == ("Be long.",)


def test_two_clients_of_one_conversation_do_not_overwrite_each_other(
    engine: Engine, store: ChatStore
) -> None:
    options = ChatOptions(session_id="a", store=store)
    first, second = engine.chat(options=options), engine.chat(options=options)
    first.send("one", **GREEDY)
    with pytest.raises(ChatStoreError, match="somebody else writes it") as caught:
        second.send("two", **GREEDY)
    assert caught.value.details["result"] is second.last_result
    assert second.turns == 1, "what was said is not lost here"
    second.save(session_id="b")
    stored = store.load("b")
    assert stored is not None
    assert stored.turns[0].messages[0]["content"] == "two"


def test_a_fork_is_kept_under_its_own_name(engine: Engine, store: ChatStore) -> None:
    chat = engine.chat(options=ChatOptions(session_id="a", store=store))
    chat.send("one", **GREEDY)
    other = chat.fork("b")
    assert store.load("b") is None
    other.send("two", **GREEDY)
    assert {(each.session_id, each.turns) for each in store.chats()} == {("a", 1), ("b", 2)}


def test_tokens_of_another_model_are_not_used(tmp_path: Path, store: ChatStore) -> None:
    options = ChatOptions(session_id="a", store=store)
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    with tiny_engine(tmp_path / "first") as engine:
        engine.chat(options=options).send("one", **GREEDY)
    with tiny_engine(tmp_path / "second", TinyModel(seed=9, scale=0.35)) as engine:
        chat = engine.chat(options=options)
        assert chat._exchange.conversation.turns[0].trail is None
        assert chat.send("two", **GREEDY).turn == 1


def test_a_conversation_can_be_copied_into_a_store(engine: Engine, store: ChatStore) -> None:
    chat = engine.chat(options=ChatOptions(session_id="a"))
    chat.send("one", **GREEDY)
    with pytest.raises(ConfigError, match="store is None"):
        chat.save()
    chat.save(store)
    chat.save(store, "copy")
    assert {each.session_id for each in store.chats()} == {"a", "copy"}


# -- the file ----------------------------------------------------------------------------------

WRITER = """
import sys
from smallmind.chat import ChatHead, SQLiteChatStore, Trail, Turn

store = SQLiteChatStore(sys.argv[1])
head = ChatHead(session_id="a")
number = 0
while True:
    said = ({"role": "user", "content": f"{number} " + "x" * 50_000},)
    trail = Trail(True, tuple(range(5000)), 1, b"d")
    store.write(head, number, (Turn(said, trail),), revision=number)
    print(number, flush=True)
    number += 1
"""


@pytest.mark.parametrize("turns", [1, 4, 9])
def test_a_writer_that_is_killed_loses_at_most_the_turn_at_hand(tmp_path: Path, turns: int) -> None:
    path = tmp_path / "chats.sqlite3"
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        for _ in range(turns):
            said = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        told = [said, *map(int, writer.stdout.read().split())]
    assert writer.returncode == -signal.SIGKILL
    stored = SQLiteChatStore(path).load("a")
    assert stored is not None
    assert len(stored.turns) in {told[-1] + 1, told[-1] + 2}
    assert stored.revision == len(stored.turns)
    for number, each in enumerate(stored.turns):
        assert each.messages[0]["content"] == f"{number} " + "x" * 50_000
        assert each.trail is not None
        assert len(each.trail.token_ids) == 5000
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_transaction_that_was_not_finished_leaves_nothing(sqlite: SQLiteChatStore) -> None:
    sqlite.write(ChatHead(session_id="a"), 0, (turn("one"),), revision=0)
    bad = Turn(({"role": "user", "content": object()},))
    with pytest.raises(ChatTemplateError, match="is a object"):
        sqlite.write(ChatHead(session_id="a"), 1, (turn("two"), bad), revision=1)
    stored = sqlite.load("a")
    assert stored is not None
    assert (stored.turns, stored.revision) == ((turn("one"),), 1)


def test_readers_see_whole_turns_while_a_writer_writes(sqlite: SQLiteChatStore) -> None:
    with closing(sqlite3.connect(sqlite.path, isolation_level=None)) as writer:
        sqlite.write(ChatHead(session_id="a"), 0, (turn("one"),), revision=0)
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("DELETE FROM turns")
        stored = SQLiteChatStore(sqlite.path).load("a")
        assert stored is not None
        assert stored.turns == (turn("one"),)
        impatient = SQLiteChatStore(sqlite.path, timeout_s=0.05)
        with pytest.raises(ChatStoreError, match="locked"):
            impatient.write(ChatHead(session_id="a"), 1, (), revision=1)
        writer.execute("ROLLBACK")
    assert SQLiteChatStore(sqlite.path).load("a") == stored


def test_other_processes_read_while_this_one_writes(sqlite: SQLiteChatStore) -> None:
    sqlite.write(ChatHead(session_id="a"), 0, (turn("one"),), revision=0)
    code = (
        "import sys; from smallmind.chat import SQLiteChatStore;"
        "print(len(SQLiteChatStore(sys.argv[1]).load('a').turns))"
    )
    seen = subprocess.run(
        [sys.executable, "-c", code, str(sqlite.path)], capture_output=True, text=True, check=True
    )
    assert seen.stdout.split() == ["1"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_store_may_be_used_after_a_fork(sqlite: SQLiteChatStore) -> None:
    sqlite.write(ChatHead(session_id="a"), 0, (turn("one"),), revision=0)
    child = os.fork()
    if child == 0:
        try:
            sqlite.write(ChatHead(session_id="a"), 1, (turn("two"),), revision=1)
        finally:
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    stored = sqlite.load("a")
    assert stored is not None
    assert len(stored.turns) == 2


def test_the_file_keeps_a_write_ahead_log(sqlite: SQLiteChatStore) -> None:
    with closing(sqlite3.connect(sqlite.path)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA user_version").fetchone() == (VERSION,)


def test_a_file_of_the_first_version_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "old.sqlite3"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        migrate(connection, path, upto=1)
        connection.execute("INSERT INTO chats VALUES ('a', 'Be brief.', 'tiny', 1, 1.0, 2.0)")
        messages = messages_to_json(turn("one").messages)
        connection.execute("INSERT INTO turns VALUES ('a', 0, ?)", (messages,))
    store = SQLiteChatStore(path)
    stored = store.load("a")
    assert stored is not None
    assert (stored.head.system, stored.head.window) == ("Be brief.", Window())
    assert stored.turns == (turn("one"),)
    store.write(stored.head, 1, (turn("two", TRAIL),), revision=1)
    again = SQLiteChatStore(path).load("a")
    assert again is not None
    assert again.turns == (turn("one"), turn("two", TRAIL))


def test_a_migration_that_fails_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "old.sqlite3"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        migrate(connection, path, upto=1)
        broken = (*MIGRATIONS[:1], ("CREATE TABLE more (x)", "NONSENSE"))
        monkeypatch.setattr("smallmind._stores.schema.MIGRATIONS", broken)
        with pytest.raises(sqlite3.OperationalError):
            migrate(connection, path)
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
        tables = connection.execute("SELECT name FROM sqlite_master WHERE name = 'more'")
        assert tables.fetchone() is None


def rename_owner(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (x)")


def make_newer(path: Path) -> None:
    SQLiteChatStore(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")


def write_text(path: Path) -> None:
    path.write_text("this is no database, but it is longer than a header " * 9)


@pytest.mark.parametrize(
    ("prepare", "complaint"),
    [
        (rename_owner, "of another program"),
        (make_newer, "upgrade smallmind"),
        (write_text, "file is not a database"),
        (Path.mkdir, "unable to open database file"),
    ],
)
def test_a_file_that_is_none_of_ours_is_refused(
    tmp_path: Path, prepare: Callable[[Path], object], complaint: str
) -> None:
    path = tmp_path / "chats.sqlite3"
    prepare(path)
    with pytest.raises(ChatStoreError, match=complaint) as caught:
        SQLiteChatStore(path)
    assert caught.value.reason is ReasonCode.CHAT_STORE_FAILED


def test_a_store_in_memory_is_another_class() -> None:
    for path in (":memory:", ""):
        with pytest.raises(ConfigError, match="InMemoryChatStore"):
            SQLiteChatStore(path)


@pytest.mark.parametrize("content", ["not json", '"text"', "[1]", "[" * 100_000])
def test_damaged_messages_are_an_error(sqlite: SQLiteChatStore, content: str) -> None:
    sqlite.write(ChatHead(session_id="a"), 0, (turn("one", TRAIL),), revision=0)
    with closing(sqlite3.connect(sqlite.path)) as connection, connection:
        connection.execute("UPDATE turns SET messages = ?", (content,))
    with pytest.raises(ChatStoreError, match="cannot be read"):
        sqlite.load("a")


def test_damaged_tokens_are_an_error_or_forgotten(sqlite: SQLiteChatStore) -> None:
    sqlite.write(ChatHead(session_id="a"), 0, (turn("one", TRAIL),), revision=0)
    with closing(sqlite3.connect(sqlite.path)) as connection, connection:
        connection.execute("UPDATE turns SET trail_ids = 'text'")
    stored = sqlite.load("a")
    assert stored is not None
    assert stored.turns[0].trail is None
    with closing(sqlite3.connect(sqlite.path)) as connection, connection:
        connection.execute("UPDATE turns SET trail_ids = x'010203'")
    with pytest.raises(ChatStoreError, match="no whole number of ids"):
        sqlite.load("a")


def test_nothing_of_a_file_is_ever_unpickled() -> None:
    root = Path(sys.modules["smallmind"].__path__[0])
    sources = [path.read_text(encoding="utf-8") for path in root.rglob("*.py")]
    assert not [source for source in sources if "import pickle" in source]


@given(ids=st.lists(st.integers(0, 2**31 - 1), max_size=50))
def test_token_ids_survive_the_way_to_bytes_and_back(ids: list[int]) -> None:
    assert ids_from_bytes(ids_to_bytes(tuple(ids))) == tuple(ids)


@given(text=st.text(st.characters(exclude_categories=()), max_size=40))
def test_messages_survive_the_way_to_json_and_back(text: str) -> None:
    messages = ({"role": "user", "content": text, "n": [1, 2.5, None, {"a": text}]},)
    assert messages_from_json(messages_to_json(messages)) == messages


def test_a_title_is_one_short_line() -> None:
    assert title_of(()) == ""
    assert title_of((Turn(()),)) == ""
    assert title_of((turn("a\nb"),)) == "a b"
