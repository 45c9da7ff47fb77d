"""``smallmind list``, ``pull``, ``rm`` and ``version``, on a registry of one tiny model."""

from __future__ import annotations

import hashlib
import json

import pytest

import smallmind
from smallmind._cli import parameters
from smallmind._cli.commands import list_models, pull, remove
from smallmind._registry import ModelEntry, PullProgress, PullStage
from smallmind_engine.telemetry import ReasonCode, RegistryError
from smallmind_engine.telemetry.errors import OperationCancelledError

BYTES = b"weights"


@pytest.fixture
def entry() -> ModelEntry:
    return ModelEntry(
        name="toy",
        file_name="toy.gguf",
        size_bytes=len(BYTES),
        sha256=hashlib.sha256(BYTES).hexdigest(),
        licence="MIT",
        licence_url="https://example.org",
        description="A toy.",
        architecture="llama",
        quantisation="F32",
        parts=(),
    )


@pytest.fixture
def registry(entry, tmp_path, monkeypatch):
    """A registry of one model; answers with where it is cached."""
    place = tmp_path / entry.file_name

    def cached(_):
        return place if place.exists() else None

    def fetch(name, *, on_progress, limit, force):
        if name != entry.name:
            raise RegistryError(ReasonCode.MODEL_NAME_UNKNOWN, f"no {name}")
        limit.check("pulling")
        if force or not place.exists():
            for stage in PullStage:
                on_progress(PullProgress(stage, len(BYTES), len(BYTES)))
            place.write_bytes(BYTES)
        return place

    def delete(_):
        there = place.exists()
        place.unlink(missing_ok=True)
        return there

    monkeypatch.setattr(list_models, "entries", lambda: (entry,))
    monkeypatch.setattr(list_models, "cached_path", cached)
    monkeypatch.setattr(pull, "pull_model", fetch)
    monkeypatch.setattr(remove, "remove_model", delete)
    return place


@pytest.mark.usefixtures("registry")
def test_list_shows_each_model_and_whether_it_is_here(cli):
    before = cli("list").stdout.splitlines()
    assert before[0].split() == ["name", "size", "type", "licence", "cached", "description"]
    assert before[1].split()[:6] == ["toy", "7", "B", "F32", "MIT", "no"]
    cli("pull", "toy")
    assert cli("list").stdout.splitlines()[1].split()[5] == "yes"


def test_list_as_json_has_every_field(cli, registry, entry):
    (document,) = json.loads(cli("list", "--json").stdout)
    assert document["cached"] is False
    assert document["path"] is None
    registry.write_bytes(BYTES)
    (document,) = json.loads(cli("list", "--json").stdout)
    assert document["path"] == str(registry)
    assert (document["sha256"], document["licence"]) == (entry.sha256, "MIT")


def test_pull_prints_the_path_and_nothing_else_on_standard_output(cli, registry):
    ran = cli("pull", "toy")
    assert (ran.exit_code, ran.stdout) == (0, f"{registry}\n")
    assert ran.stderr == "downloading (7 B)\n"
    assert cli("pull", "toy").stderr == ""
    assert cli("pull", "toy", "--force").stderr == "downloading (7 B)\n"


@pytest.mark.usefixtures("registry")
def test_pulling_an_unknown_name_is_told(cli):
    ran = cli("pull", "tyo")
    assert (ran.exit_code, ran.stderr) == (2, "error: no tyo [MODEL_NAME_UNKNOWN]\n")


def test_an_interrupted_pull_says_so(cli, monkeypatch):
    def cancelled(*_, **__):
        raise OperationCancelledError(ReasonCode.CANCELLED_BY_CALLER, "pulling was stopped")

    monkeypatch.setattr(pull, "pull_model", cancelled)
    ran = cli("pull", "toy")
    assert (ran.exit_code, ran.stdout) == (130, "")
    assert ran.stderr == "error: pulling was stopped [CANCELLED_BY_CALLER]\n"


def test_rm_deletes(cli, registry):
    registry.write_bytes(BYTES)
    assert cli("rm", "toy").stderr == "toy: deleted\n"
    assert not registry.exists()
    assert cli("rm", "toy").stderr == "toy: was not in the cache\n"


def test_version_tells_what_would_run(cli):
    assert cli("version").stdout.startswith(f"smallmind {smallmind.__version__} (Python ")
    document = json.loads(cli("version", "--json").stdout)
    assert document["smallmind"] == smallmind.__version__
    assert "numpy" in document["backends"]
    assert {"memory", "prometheus"} <= set(document["exporters"])


def test_names_complete(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("small.gguf", "other.gguf", "smile.txt"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "smooth").mkdir()
    assert parameters.complete_model("sm") == ["smollm2", "small.gguf", "smooth/"]
    assert parameters.complete_model(f"{tmp_path}/o") == [f"{tmp_path}/other.gguf"]
    assert parameters.complete_model("smooth/") == []
    assert parameters._complete_name("gem") == ["gemma3-270m"]
    assert parameters._complete_backend("num") == ["numpy", "numba"]
    assert "memory" in parameters._complete_exporter("mem")


def test_help_lists_every_command(cli):
    shown = cli("--help").stdout
    for command in ("demo", "pull", "list", "rm", "inspect", "generate", "chat", "validate"):
        assert command in shown
