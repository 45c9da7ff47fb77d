"""Many threads search one index while it changes; each sees one whole state of it."""

from __future__ import annotations

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from rag_indexes import check_integrity, open_index, texts
from smallmind.rag import RetrievalMode, RetrievalOptions, UserContext

THREADS = 8
SEARCHES = 40
STATES = 12
ADA = UserContext("ada", frozenset({"staff"}))


def state(number):
    """Twenty documents that all say which state they are of; every second one is closed."""
    documents = {f"d{n}.txt": f"Common words of state{number} number{n}." for n in range(20)}
    return texts(documents, **{f"d{n}": ["staff"] for n in range(0, 20, 2)})


def test_readers_see_whole_states_while_a_writer_changes_them(tmp_path):
    stop = threading.Event()
    with open_index(tmp_path) as index:
        index.update(state(0))

        def write():
            for number in range(1, STATES):
                index.update(state(number))
            stop.set()

        def read(thread):
            modes = list(RetrievalMode)
            seen = set()
            for turn in range(SEARCHES * 10):
                if turn >= SEARCHES and stop.is_set():
                    break
                user = ADA if (turn + thread) % 2 else None
                options = RetrievalOptions(mode=modes[turn % 3], top_k=50)
                found = index.retrieve("common words of", user=user, options=options).chunks
                assert len(found) == (20 if user else 10)
                assert all(user or not chunk.labels for chunk in found)
                # All of one transaction: never two states at once.
                states = {chunk.text.split()[3] for chunk in found}
                assert len(states) == 1
                seen |= states
            return seen

        with ThreadPoolExecutor(THREADS + 1) as pool:
            writer = pool.submit(write)
            seen = set().union(*pool.map(read, range(THREADS)))
            writer.result()
        assert len(seen) > 1
        check_integrity(index)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_searches_and_the_parent_goes_on(tmp_path):
    with open_index(tmp_path) as index:
        index.update(texts())
        index.retrieve("bees")
        child = os.fork()
        if not child:
            code = 1
            try:
                code = 0 if index.retrieve("bees").chunks[0].source == "bees.md" else 2
                index.close()
            finally:
                sys.stdout.flush()
                os._exit(code)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert index.retrieve("bees").chunks[0].source == "bees.md"
        index.update(texts({}))
        check_integrity(index)
