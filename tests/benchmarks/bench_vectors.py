"""Where the vectors of an index should live: three ways to find the nearest of many.

    pip install apsw sqlite-vec
    python tests/benchmarks/bench_vectors.py [--rows 10000] [--repeat 9]

The same random unit vectors are searched exactly

* by NumPy over a matrix that is read from the rows of a table (what the index does),
* by NumPy over a mapped file,
* by ``sqlite-vec`` inside of SQLite, through ``apsw``, because many builds of Python's own
  ``sqlite3`` cannot load extensions at all (this one is looked at too).

Each search leaves out half of the rows, as access control does, before it ranks. The ways take
turns, and the least of the repetitions counts, because other programs disturb.
"""

from __future__ import annotations

import argparse
import importlib.util
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from smallmind.rag._vectors import VectorTable, nearest, stored
from smallmind_engine.control import NO_LIMIT

WIDTH = 384
DEPTH = 50
QUERIES = 20


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def table_of(path: Path, vectors: np.ndarray, label_sets: np.ndarray) -> Callable[[], VectorTable]:
    """Keeps the vectors in rows; answers with what reads them into a matrix."""
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE chunks (id INTEGER PRIMARY KEY, text TEXT, vector BLOB)")
    rows = ((at, "text " * 100, stored(vector)) for at, vector in enumerate(vectors))
    connection.executemany("INSERT INTO chunks VALUES (?, ?, ?)", rows)
    connection.commit()

    def read() -> VectorTable:
        matrix = np.empty(vectors.shape, np.float32)
        for row, (blob,) in enumerate(connection.execute("SELECT vector FROM chunks ORDER BY id")):
            matrix[row] = np.frombuffer(blob, "<f4")
        return VectorTable(1, np.arange(len(matrix)), label_sets, matrix)

    return read


def sqlite_vec_of(
    path: Path, vectors: np.ndarray, label_sets: np.ndarray
) -> Callable[[np.ndarray], list[int]] | None:
    """Keeps the vectors in a table of sqlite-vec; None where that is not installed."""
    if not all(map(importlib.util.find_spec, ("apsw", "sqlite_vec"))):
        return None
    import apsw
    import sqlite_vec

    connection = apsw.Connection(str(path))
    connection.enable_load_extension(True)  # noqa: FBT003 - positional only
    connection.load_extension(sqlite_vec.loadable_path())
    connection.execute(
        f"CREATE VIRTUAL TABLE v USING vec0(id INTEGER PRIMARY KEY, label INTEGER,"
        f" e float[{WIDTH}] distance_metric=cosine)"
    )
    with connection:
        connection.executemany(
            "INSERT INTO v (id, label, e) VALUES (?, ?, ?)",
            ((at, int(label_sets[at]), stored(vector)) for at, vector in enumerate(vectors)),
        )

    def find(question: np.ndarray) -> list[int]:
        query = "SELECT id FROM v WHERE e MATCH ? AND k = ? AND label = 0 ORDER BY distance"
        return [row[0] for row in connection.execute(query, (stored(question), DEPTH))]

    return find


def main() -> None:
    """Measure, and print one line for each way."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--repeat", type=int, default=9)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((arguments.rows, WIDTH)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    label_sets = rng.integers(0, 2, arguments.rows)
    questions = vectors[rng.integers(0, arguments.rows, QUERIES)]
    can_load = hasattr(sqlite3.Connection, "enable_load_extension")
    print(f"{arguments.rows} x {WIDTH}; this sqlite3 loads extensions: {can_load}")
    with tempfile.TemporaryDirectory() as folder:
        read = table_of(Path(folder) / "rows.db", vectors, label_sets)
        load_s = min(seconds(read) for _ in range(3))
        in_memory = read()
        file = Path(folder) / "vectors.f4"
        vectors.tofile(file)

        def mapped() -> VectorTable:
            matrix = np.memmap(file, np.float32, "r", shape=vectors.shape)
            return VectorTable(1, in_memory.ids, label_sets, matrix)

        in_file = mapped()
        find = sqlite_vec_of(Path(folder) / "vec.db", vectors, label_sets)
        ways: dict[str, Callable[[np.ndarray], list[int]]] = {
            "NumPy, matrix read from rows": lambda q: ids(in_memory, q),
            "NumPy, mapped file": lambda q: ids(in_file, q),
        }
        if find is not None:
            ways["sqlite-vec"] = find
        answers = {name: [way(q) for q in questions] for name, way in ways.items()}
        expected = next(iter(answers.values()))
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(arguments.repeat):
            for name, way in ways.items():
                spent = seconds(lambda way=way: [way(q) for q in questions])
                times[name].append(spent / QUERIES)
        print(f"reading the matrix from rows: {load_s * 1e3:.1f} ms, once after a change at most")
        for name, spent in times.items():
            same = sum(len(set(a) & set(b)) for a, b in zip(answers[name], expected, strict=True))
            print(
                f"{name}: {min(spent) * 1e3:.2f} ms a search,"
                f" {same / (QUERIES * DEPTH):.1%} the same chunks"
            )


def ids(table: VectorTable, question: np.ndarray) -> list[int]:
    """Of the nearest rows with the label 0."""
    return [chunk for chunk, _ in nearest(table, question, (0,), DEPTH, NO_LIMIT)]


if __name__ == "__main__":
    main()
