"""An indexing run that is killed: the next one loses nothing and doubles nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rag_indexes import check_integrity, open_index, rows_of
from smallmind.rag import ChunkingOptions, FolderSource

DOCUMENTS = 40
CHUNKING = ChunkingOptions(max_tokens=16, overlap_tokens=0, min_tokens=0)
CHILD = """
import sys
from pathlib import Path
from smallmind.rag import ChunkingOptions, FolderSource, HashingEmbedder, RagIndex

def tell(progress):
    print(progress.chunks, flush=True)

chunking = ChunkingOptions(max_tokens=16, overlap_tokens=0, min_tokens=0)
with RagIndex(sys.argv[1], embedder=HashingEmbedder(64), chunking=chunking) as index:
    index.update(FolderSource(sys.argv[2]), on_progress=tell)
print("done", flush=True)
"""


@pytest.fixture
def folder(tmp_path) -> Path:
    made = tmp_path / "documents"
    made.mkdir()
    for number in range(DOCUMENTS):
        sentences = (f"Fact {fact} of document {number} is told here." for fact in range(60))
        (made / f"{number:02}.txt").write_text(" ".join(sentences))
    return made


def run_and_kill(database: Path, folder: Path, lines: int) -> bool:
    """Kill a run, as nothing can catch it, once it has told that often; whether it was alive."""
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(database), str(folder)], stdout=subprocess.PIPE, text=True
    ) as child:
        for _ in range(lines):
            line = child.stdout.readline()
            if not line or line == "done\n":
                break
        child.kill()
        child.wait()
    return child.returncode == -signal.SIGKILL


def test_a_killed_run_resumes_with_nothing_lost_or_doubled(folder, tmp_path):
    with open_index(tmp_path / "whole", chunking=CHUNKING) as whole:
        whole.update(FolderSource(folder))
        expected = rows_of(whole)
    assert len(expected) > DOCUMENTS * 10

    done = []
    for lines in (5, 9, 17):
        assert run_and_kill(tmp_path / "index.db", folder, lines)
        with open_index(tmp_path, chunking=CHUNKING) as index:
            check_integrity(index)
            rows = rows_of(index)
            # What is there is there whole, and once.
            assert set(rows) <= set(expected)
            assert len(set(rows)) == len(rows)
            done.append(len({source for _, source, *_ in rows}))
    assert 0 < done[0] <= done[1] <= done[2] < DOCUMENTS

    with open_index(tmp_path, chunking=CHUNKING) as index:
        report = index.update(FolderSource(folder))
        assert report.unchanged == done[-1]
        assert report.added == DOCUMENTS - done[-1]
        assert rows_of(index) == expected
        check_integrity(index)


def test_two_runs_at_once_double_nothing(folder, tmp_path):
    command = [sys.executable, "-c", CHILD, str(tmp_path / "index.db"), str(folder)]
    children = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [child.wait(120) for child in children] == [0, 0]
    with open_index(tmp_path, chunking=CHUNKING) as index:
        assert index.update(FolderSource(folder)).unchanged == DOCUMENTS
        rows = rows_of(index)
        assert len(set(rows)) == len(rows)
        check_integrity(index)
