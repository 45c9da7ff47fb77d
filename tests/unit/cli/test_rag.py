"""``smallmind rag index``, ``search`` and ``ask``."""

from __future__ import annotations

import json

import pytest

from rag_indexes import LIBRARY


@pytest.fixture
def rag(cli, tmp_path, monkeypatch):
    """Runs ``smallmind rag``; there is a folder DIR with three documents."""
    monkeypatch.delenv("SMALLMIND_RAG_INDEX", raising=False)
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "documents"
    folder.mkdir()
    for name, text in LIBRARY.items():
        (folder / name).write_text(text)

    def run(*arguments: str):
        return cli("rag", *(str(folder) if each == "DIR" else each for each in arguments))

    run.folder = folder
    return run


ASK = ("--model", "MODEL", "--max-tokens", "4", "--sources", "1", "--instructions", "Answer.")


def test_a_folder_is_indexed_and_again_when_it_changed(rag):
    ran = rag("index", "DIR")
    assert (ran.exit_code, ran.stdout.splitlines()[1]) == (
        0,
        ".smallmind-rag.db: 3 documents, 3 chunks",
    )
    assert ran.stdout.startswith(
        "3 added, 0 updated, 0 deleted, 0 unchanged, 0 failed; 3 chunks in"
    )
    (rag.folder / "bees.md").unlink()
    (rag.folder / "tides.md").write_text("Tides ebb and flow.")
    assert rag("index", "DIR").stdout.startswith("0 added, 1 updated, 1 deleted, 1 unchanged")


def test_a_document_that_cannot_be_read_is_named_and_fails_the_run(rag):
    (rag.folder / "bad.pdf").write_bytes(b"nonsense")
    ran = rag("index", "DIR")
    assert ran.exit_code == 1
    assert "bad.pdf: the PDF cannot be read" in ran.stderr
    assert "3 added" in ran.stdout


def test_indexing_tells_as_json(rag):
    document = json.loads(rag("index", "DIR", "--json").stdout)
    assert document["report"]["added"] == document["counts"]["documents"] == 3


def test_a_search_shows_places_and_reasons(rag):
    rag("index", "DIR")
    ran = rag("search", "full moon", "-k", "1")
    assert ran.exit_code == 0
    assert ran.stdout.splitlines()[0] == "1. tides.md, characters 0-76"
    assert "words 100%, similarity 0." in ran.stdout


def test_a_search_tells_as_json(rag):
    rag("index", "DIR")
    document = json.loads(rag("search", "full moon", "--mode", "lexical", "--json").stdout)
    assert (document["mode"], document["chunks"][0]["source"]) == ("lexical", "tides.md")


def test_nothing_found_is_exit_code_1(rag):
    rag("index", "DIR")
    ran = rag("search", "zebra", "--mode", "lexical")
    assert (ran.exit_code, ran.stdout) == (1, "")
    assert "nothing was found" in ran.stderr


def test_labels_close_documents_now_and_in_later_runs(rag):
    rag("index", "DIR", "--label", "tides*=staff")
    rag("index", "DIR")
    assert "tides.md" not in rag("search", "full moon").stdout
    assert "tides.md" not in rag("search", "full moon", "--user", "eve").stdout
    assert "tides.md" in rag("search", "full moon", "--user", "ada", "--holds", "staff").stdout


def test_an_answer_comes_with_its_sources(rag):
    rag("index", "DIR")
    ran = rag("ask", "What do tides follow?", *ASK)
    assert ran.exit_code == 0, ran.stderr
    assert ran.stdout.splitlines()[-1].startswith("[S1] tides.md, characters 0-")


def test_an_answer_tells_as_json_under_one_id(rag):
    rag("index", "DIR")
    ran = rag("ask", "What do tides follow?", *ASK, "--json")
    document = json.loads(ran.stdout)
    assert document["text"] == document["result"]["text"]
    assert document["sources"][0]["source"] == "tides.md"
    ids = [document[part]["correlation"]["request_id"] for part in ("retrieval", "result")]
    assert ids[0] == ids[1]


def test_no_evidence_is_exit_code_1_and_no_text(rag):
    rag("index", "DIR")
    ran = rag("ask", "Who painted the Mona Lisa?", *ASK)
    assert (ran.exit_code, ran.stdout) == (1, "")
    assert "RAG_EVIDENCE_INSUFFICIENT" in ran.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("index", "nowhere"), "is no folder"),
        (("index", "DIR", "--label", "x"), "PATTERN=LABEL"),
        (("index", "DIR", "--embedder", "magic"), "MODEL_NAME_UNKNOWN"),
        (("index", "DIR", "--chunk-tokens", "3"), "at least 16"),
        (("search", "x", "--index", "none.db"), "smallmind rag index FOLDER"),
        (("search", "x", "--holds", "y"), "--holds needs --user"),
    ],
)
def test_what_cannot_be_done_is_told_with_exit_code_2(rag, arguments, words):
    ran = rag(*arguments)
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert words in ran.stderr
    assert ran.stderr.count("\n") == 1


@pytest.mark.parametrize("command", [("search",), ("ask", "--model", "MODEL")])
def test_an_index_of_another_embedder_is_told_with_the_option_that_chooses(rag, command):
    rag("index", "DIR", "--embedder", "MODEL")
    ran = rag(*command, "bees")
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert "--embedder FILE for that of a model" in ran.stderr
    assert "[RAG_EMBEDDER_MISMATCH]" in ran.stderr
    assert rag("search", "bees", "--embedder", "MODEL").exit_code == 0


def test_an_empty_question_is_exit_code_2(rag):
    rag("index", "DIR")
    ran = rag("ask", " ", *ASK)
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert "[PROMPT_EMPTY]" in ran.stderr
