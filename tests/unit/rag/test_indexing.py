"""An index follows its documents: new, changed, gone, and only those."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pdf_files import pdf
from rag_indexes import LIBRARY, check_integrity, open_index, rows_of, texts
from smallmind.rag import (
    ChunkingOptions,
    DocumentError,
    FolderSource,
    HashingEmbedder,
    IndexLimits,
    LabelRule,
    RagBudgetError,
    RagIndexError,
    TextDocument,
    TextSource,
    UserContext,
)
from smallmind_engine.control import CancellationToken
from smallmind_engine.telemetry import MissingExtraError, OperationCancelledError, ReasonCode
from smallmind_engine.telemetry.errors import ConfigError


class CountingEmbedder(HashingEmbedder):
    """Counts the texts that it embeds."""

    def __init__(self, dimension: int = 64) -> None:
        super().__init__(dimension)
        self.embedded = 0

    def embed(self, texts, /, *, limit):
        self.embedded += len(texts)
        return super().embed(texts, limit=limit)


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "documents"
    (made / "below").mkdir(parents=True)
    (made / "a.md").write_text("# A\n\nAbout apples. They are red.")
    (made / "below" / "b.html").write_text("<h1>B</h1><p>About bananas.</p>")
    (made / "below" / "c.pdf").write_bytes(pdf("About cherries."))
    (made / "d.txt").write_text("About dates.")
    (made / "picture.png").write_bytes(b"\x89PNG")
    (made / ".hidden.txt").write_text("secret")
    return made


def found(index, question, **options):
    return [chunk.source for chunk in index.retrieve(question, **options).chunks]


def test_a_folder_is_indexed_with_all_its_formats(folder, tmp_path):
    with open_index(tmp_path) as index:
        report = index.update(FolderSource(folder))
        assert (report.added, report.chunks, report.failed) == (4, 4, ())
        assert found(index, "cherries")[0] == "below/c.pdf"
        assert found(index, "bananas")[0] == "below/b.html"
        assert index.counts().documents == index.counts().vectors == 4
        check_integrity(index)


def test_an_unchanged_folder_is_left_alone(folder, tmp_path):
    embedder = CountingEmbedder()
    with open_index(tmp_path, embedder=embedder) as index:
        index.update(FolderSource(folder))
        before, embedded = rows_of(index), embedder.embedded
        (folder / "a.md").touch()
        report = index.update(FolderSource(folder))
        assert (report.unchanged, report.added, report.updated, report.deleted) == (4, 0, 0, 0)
        assert (rows_of(index), embedder.embedded) == (before, embedded)


def test_only_what_changed_is_embedded_again_and_what_is_gone_is_deleted(folder, tmp_path):
    embedder = CountingEmbedder()
    with open_index(tmp_path, embedder=embedder) as index:
        index.update(FolderSource(folder))
        embedder.embedded = 0
        (folder / "a.md").write_text("# A\n\nAbout apricots.")
        (folder / "d.txt").unlink()
        (folder / "e.txt").write_text("About elderberries.")
        report = index.update(FolderSource(folder))
        counts = (report.added, report.updated, report.unchanged, report.deleted)
        assert counts == (1, 1, 2, 1)
        assert embedder.embedded == 2
        assert found(index, "apricots")[0] == "a.md"
        words = [chunk.text for chunk in index.retrieve("apples dates").chunks]
        assert not any("apples" in text or "dates" in text for text in words)
        check_integrity(index)


def test_the_index_after_any_history_is_that_of_a_first_run(folder, tmp_path):
    with open_index(tmp_path) as index:
        index.update(FolderSource(folder))
        (folder / "a.md").write_text("other")
        index.update(FolderSource(folder))
        (folder / "a.md").write_text("# A\n\nAbout apples. They are red.")
        (folder / "d.txt").rename(folder / "z.txt")
        index.update(FolderSource(folder))
        after = rows_of(index)
    (tmp_path / "fresh").mkdir()
    with open_index(tmp_path / "fresh") as fresh:
        fresh.update(FolderSource(folder))
        assert rows_of(fresh) == after


def test_other_options_or_another_embedder_index_again(folder, tmp_path):
    with open_index(tmp_path) as index:
        index.update(FolderSource(folder))
    with open_index(
        tmp_path, chunking=ChunkingOptions(max_tokens=16, overlap_tokens=0, min_tokens=0)
    ) as index:
        assert index.update(FolderSource(folder)).updated == 4
    with open_index(tmp_path, embedder=HashingEmbedder(32)) as index:
        assert index.update(FolderSource(folder)).updated == 4
        assert index.counts().vectors == index.counts().chunks


def test_collections_do_not_delete_each_others_documents(folder, tmp_path):
    with open_index(tmp_path) as index:
        index.update(FolderSource(folder))
        index.update(texts())
        index.update(texts({}))
        assert index.counts().documents == 4


def test_a_damaged_document_is_reported_and_the_others_are_indexed(folder, tmp_path):
    (folder / "bad.pdf").write_bytes(b"%PDF-1.4 broken")
    (folder / "bad.txt").write_bytes(b"\0\1\2")
    with open_index(tmp_path) as index:
        report = index.update(FolderSource(folder))
        assert [failure.source for failure in report.failed] == ["bad.pdf", "bad.txt"]
        assert {failure.reason for failure in report.failed} == {ReasonCode.RAG_SOURCE_UNREADABLE}
        assert report.added == 4


def test_a_document_that_became_damaged_keeps_what_the_index_has(folder, tmp_path):
    with open_index(tmp_path) as index:
        index.update(FolderSource(folder))
        (folder / "d.txt").write_bytes(b"\0\1\2")
        report = index.update(FolderSource(folder))
        assert [failure.source for failure in report.failed] == ["d.txt"]
        assert found(index, "dates")[0] == "d.txt"


def test_a_document_over_the_limit_is_reported(folder, tmp_path):
    with open_index(tmp_path, limits=IndexLimits(max_document_bytes=20)) as index:
        report = index.update(FolderSource(folder))
        assert {failure.source for failure in report.failed} == {
            "a.md",
            "below/b.html",
            "below/c.pdf",
        }
        assert "raise max_document_bytes" in report.failed[0].message


@pytest.mark.parametrize("limits", [{"max_chunks": 2}, {"max_bytes": 60}])
def test_the_budget_is_asked_before_anything_is_written(folder, tmp_path, limits):
    with open_index(tmp_path, limits=IndexLimits(**limits)) as index:
        with pytest.raises(RagBudgetError) as caught:
            index.update(FolderSource(folder))
        assert caught.value.reason is ReasonCode.RAG_BUDGET_EXCEEDED
        assert caught.value.details["limit"] in limits
        assert index.counts().chunks == 0


def test_a_changed_document_needs_no_more_room_than_it_takes(tmp_path):
    with open_index(tmp_path, limits=IndexLimits(max_chunks=3)) as index:
        index.update(texts())
        changed = {**LIBRARY, "bees.md": "# Bees\n\nBees dance."}
        assert index.update(texts(changed)).updated == 1


def test_links_out_of_the_folder_are_not_followed(folder, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_text("secret")
    (folder / "link.txt").symlink_to(outside / "secret.txt")
    (folder / "linked").symlink_to(outside)
    assert "secret" not in "".join(d.source for d in FolderSource(folder).documents())
    assert len(list(FolderSource(folder).documents())) == 4


def test_a_folder_that_is_not_there_deletes_nothing(folder, tmp_path):
    with open_index(tmp_path) as index:
        index.update(FolderSource(folder))
        with pytest.raises(ConfigError, match="is no folder"):
            index.update(FolderSource(tmp_path / "nowhere"))
        assert index.counts().documents == 4


def test_a_folder_that_cannot_be_listed_deletes_nothing(folder, tmp_path, monkeypatch):
    listed = os.scandir

    def scandir(path):
        if str(path).endswith("below"):
            raise PermissionError(13, "no")
        return listed(path)

    with open_index(tmp_path) as index:
        index.update(FolderSource(folder))
        monkeypatch.setattr(os, "scandir", scandir)
        with pytest.raises(DocumentError, match="below' cannot be read"):
            index.update(FolderSource(folder))
        assert index.counts().documents == 4


@pytest.mark.parametrize("module", ["markdown_it", "selectolax.lexbor", "pypdf"])
def test_a_missing_parser_names_the_extra(folder, tmp_path, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with open_index(tmp_path) as index, pytest.raises(MissingExtraError) as caught:
        index.update(FolderSource(folder))
    assert 'pip install "smallmind[rag]"' in str(caught.value)


def test_an_import_brings_no_parser():
    parsers = {"markdown_it", "selectolax", "pypdf"}
    program = f"import sys, smallmind.rag; print({parsers} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=True)
    assert ran.stdout == b"set()\n"


def test_progress_reaches_its_end(folder, tmp_path):
    told = []
    with open_index(tmp_path) as index:
        index.update(FolderSource(folder), on_progress=told.append)
    assert [each.documents for each in told] == [1, 2, 3, 4, 4]
    assert (told[-1].total_documents, told[-1].chunks) == (4, 4)


def test_a_cancelled_run_keeps_whole_documents_and_tells_what_it_did(tmp_path):
    many = {f"{n:03}.txt": f"Document number {n}." for n in range(200)}
    token = CancellationToken()

    def stop(progress):
        if progress.documents == 150:
            token.cancel()

    with open_index(tmp_path) as index:
        with pytest.raises(OperationCancelledError) as caught:
            index.update(texts(many), cancellation=token, on_progress=stop)
        report = caught.value.details["report"]
        assert report.added == index.counts().documents == 128
        rest = index.update(texts(many))
        assert (rest.unchanged, rest.added) == (128, 72)
        check_integrity(index)


def test_a_run_that_is_out_of_time_stops(tmp_path):
    with open_index(tmp_path) as index, pytest.raises(OperationCancelledError) as caught:
        index.update(texts(), timeout=1e-9)
    assert caught.value.reason is ReasonCode.CANCELLED_BY_TIMEOUT


def test_label_rules_are_remembered(tmp_path):
    rules = (LabelRule("b*", frozenset({"secret"})),)
    with open_index(tmp_path) as index:
        index.update(texts(), label_rules=rules)
        assert found(index, "bees bread tides") == ["tides.md"]
        index.update(texts({**LIBRARY, "bears.md": "Bears sleep, unlike bees."}))
        assert found(index, "bees bread tides bears") == ["tides.md"]
        holder = UserContext("ada", frozenset({"secret"}))
        assert len(found(index, "bees bread tides bears", user=holder)) == 4


def test_labels_change_without_embedding_again(tmp_path):
    embedder = CountingEmbedder()
    with open_index(tmp_path, embedder=embedder) as index:
        index.update(texts())
        embedder.embedded = 0
        report = index.update(texts(bees=["secret"]))
        assert (report.unchanged, report.relabelled, embedder.embedded) == (3, 1, 0)
        assert "bees.md" not in found(index, "bees tides bread")


def test_labels_are_closed_even_when_the_document_became_unreadable(folder, tmp_path):
    with open_index(tmp_path) as index:
        index.update(FolderSource(folder))
        (folder / "d.txt").write_bytes(b"\0")
        index.update(FolderSource(folder), label_rules=[LabelRule("d.txt", frozenset({"x"}))])
        assert "d.txt" not in found(index, "dates")


def test_an_embedder_that_gives_another_shape_is_told(tmp_path):
    class Wrong(HashingEmbedder):
        def embed(self, texts, /, *, limit):
            return super().embed(texts, limit=limit)[:, :10]

    with open_index(tmp_path, embedder=Wrong(64)) as index:
        with pytest.raises(RagIndexError, match=r"shape \(3, 10\)"):
            index.update(texts())
        assert index.counts().documents == 0


def test_two_documents_of_one_name_are_refused():
    with pytest.raises(ConfigError, match="source 'a'"):
        TextSource([TextDocument("a", "x"), TextDocument("a", "y")])


def test_the_file_is_for_its_owner_alone(tmp_path):
    with open_index(tmp_path) as index:
        assert index.path.stat().st_mode & 0o077 == 0
