"""The file of an index: versions, damage, and what is no index."""

from __future__ import annotations

import sqlite3

import pytest

from rag_indexes import open_index, texts
from smallmind.rag import RagIndexError
from smallmind.rag._schema import MIGRATIONS, bring_up_to_date
from smallmind.rag._store import IndexStore
from smallmind_engine.control import CancellationToken, WorkLimit
from smallmind_engine.telemetry import ClosedError, OperationCancelledError, ReasonCode


def connection_to(path):
    return sqlite3.connect(path, isolation_level=None)


def version_of(path):
    connection = connection_to(path)
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    connection.close()
    return version


def test_a_new_file_has_the_newest_version(tmp_path):
    IndexStore(tmp_path / "a.db").close()
    assert version_of(tmp_path / "a.db") == len(MIGRATIONS)


def test_the_size_on_disk_is_that_of_all_files(tmp_path):
    with open_index(tmp_path) as index:
        index.update(texts())
        files = sorted(tmp_path.iterdir())
        sizes = [path.stat().st_size for path in files]
        assert [path.name for path in files] == ["index.db", "index.db-shm", "index.db-wal"]
        assert index.counts().file_bytes == sum(sizes) > sizes[0]


def test_what_is_not_beside_the_file_takes_no_space(tmp_path):
    store = IndexStore(tmp_path / "a.db")
    store.close()
    (file,) = tmp_path.iterdir()
    assert store.disk_bytes() == file.stat().st_size


def test_an_older_index_is_brought_up_to_date_with_what_it_holds(tmp_path):
    with open_index(tmp_path) as index:
        index.update(texts())
    connection = connection_to(tmp_path / "index.db")
    newer = (*MIGRATIONS, "ALTER TABLE documents ADD COLUMN note TEXT NOT NULL DEFAULT 'new';")
    bring_up_to_date(connection, newer)
    assert connection.execute("SELECT count(*), min(note) FROM documents").fetchone() == (3, "new")
    connection.close()
    assert version_of(tmp_path / "index.db") == len(newer)


def test_a_migration_that_fails_leaves_the_old_version_whole(tmp_path):
    IndexStore(tmp_path / "a.db").close()
    connection = connection_to(tmp_path / "a.db")
    bad = (*MIGRATIONS, "CREATE TABLE extra (x);\nSELECT * FROM nowhere;")
    with pytest.raises(sqlite3.OperationalError):
        bring_up_to_date(connection, bad)
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    connection.close()
    assert "extra" not in names
    assert version_of(tmp_path / "a.db") == len(MIGRATIONS)


def test_an_index_of_a_newer_version_is_refused(tmp_path):
    IndexStore(tmp_path / "a.db").close()
    connection = connection_to(tmp_path / "a.db")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(RagIndexError, match="version 99") as caught:
        IndexStore(tmp_path / "a.db")
    assert caught.value.reason is ReasonCode.RAG_INDEX_TOO_NEW


def test_a_database_of_another_application_is_left_alone(tmp_path):
    connection = connection_to(tmp_path / "a.db")
    connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    before = (tmp_path / "a.db").read_bytes()
    with pytest.raises(RagIndexError, match="another application"):
        IndexStore(tmp_path / "a.db")
    connection = connection_to(tmp_path / "a.db")
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master")]
    connection.close()
    assert tables == ["theirs"]
    assert len(before) == (tmp_path / "a.db").stat().st_size


@pytest.mark.parametrize("content", [b"no database at all, but long enough to look like one" * 20])
def test_a_file_that_is_no_database_is_an_error_of_ours(tmp_path, content):
    (tmp_path / "a.db").write_bytes(content)
    with pytest.raises(RagIndexError) as caught:
        IndexStore(tmp_path / "a.db")
    assert caught.value.reason is ReasonCode.RAG_INDEX_UNUSABLE
    assert (tmp_path / "a.db").read_bytes() == content


def test_a_path_that_cannot_be_written_is_an_error_of_ours(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RagIndexError):
        IndexStore(tmp_path / "file" / "a.db")


def test_a_transaction_that_fails_changes_nothing(tmp_path):
    store = IndexStore(tmp_path / "a.db")

    def fail():
        with store.writing() as connection:
            connection.execute("INSERT INTO label_sets (labels) VALUES ('[]')")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with store.reading() as connection:
        assert connection.execute("SELECT count(*) FROM label_sets").fetchone() == (0,)
    store.close()


def test_a_reader_keeps_its_snapshot_while_another_writes(tmp_path):
    store = IndexStore(tmp_path / "a.db")
    query = "SELECT count(*) FROM label_sets"
    with store.reading() as reader:
        assert reader.execute(query).fetchone() == (0,)
        with store.writing() as writer:
            writer.execute("INSERT INTO label_sets (labels) VALUES ('[]')")
        assert reader.execute(query).fetchone() == (0,)
    with store.reading() as reader:
        assert reader.execute(query).fetchone() == (1,)
    store.close()


def test_a_query_is_interrupted_in_its_middle(tmp_path):
    store = IndexStore(tmp_path / "a.db")
    token = CancellationToken()
    endless = (
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n)"
        " SELECT count(*) FROM n WHERE note(x)"
    )

    def note(x):
        if x == 1000:
            token.cancel()
        return 1

    def search():
        with store.reading(WorkLimit(token)) as reader:
            reader.create_function("note", 1, note)
            reader.execute(endless).fetchone()

    with pytest.raises(OperationCancelledError) as caught:
        search()
    assert caught.value.reason is ReasonCode.CANCELLED_BY_CALLER
    store.close()


def test_a_closed_index_says_so(tmp_path):
    index = open_index(tmp_path)
    index.close()
    index.close()
    with pytest.raises(ClosedError):
        index.retrieve("x")
