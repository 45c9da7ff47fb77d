"""The registry's names: what they lead to, and what they cannot lead to."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_fixtures import cache, index  # noqa: F401 - fixtures
from smallmind import _registry
from smallmind._registry import HubFile
from smallmind._registry.cache import place_of
from smallmind_engine.telemetry import MissingExtraError, ReasonCode, RegistryError


@pytest.mark.parametrize("entry", _registry.entries(), ids=lambda entry: entry.name)
def test_every_entry_is_complete_and_adds_up(entry: _registry.ModelEntry) -> None:
    assert entry.size_bytes == sum(part.size_bytes for part in entry.parts)
    assert all(re.fullmatch("[0-9a-f]{64}", part.sha256) for part in (entry, *entry.parts))
    assert entry.download_bytes > 0
    assert entry.licence
    assert entry.licence_url.startswith("https://")
    assert all(part.requirement in entry.source for part in entry.parts)


def test_names_are_unique_and_so_are_their_files() -> None:
    entries = _registry.entries()
    assert len({entry.name for entry in entries}) == len(entries)
    assert len({entry.file_name.casefold() for entry in entries}) == len(entries)


def test_a_name_is_found_in_any_case() -> None:
    assert _registry.find("SmolLM2").name == "smollm2"


def test_an_unknown_name_lists_the_known_ones_and_suggests_the_nearest() -> None:
    with pytest.raises(RegistryError) as caught:
        _registry.find("smolm2")
    assert caught.value.reason is ReasonCode.MODEL_NAME_UNKNOWN
    assert "smollm2, gemma3-270m" in str(caught.value)
    assert "did you mean 'smollm2'?" in str(caught.value)


def test_a_name_like_no_other_gets_no_suggestion() -> None:
    with pytest.raises(RegistryError) as caught:
        _registry.find("zzzzzzzz")
    assert caught.value.hint == ""


def test_a_path_resolves_to_itself(tmp_path: Path) -> None:
    path = tmp_path / "own.gguf"
    path.write_bytes(b"x")
    assert _registry.resolve(path) == path
    assert _registry.resolve(str(path)) == path


def test_what_is_neither_file_nor_name_is_told_both_ways(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="is no file, and no model of the registry") as caught:
        _registry.resolve(tmp_path / "missing.gguf")
    assert caught.value.reason is ReasonCode.MODEL_NAME_UNKNOWN
    with pytest.raises(RegistryError, match="is a folder, not a model file"):
        _registry.resolve(tmp_path)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "a/b", "a\\b", "/etc/passwd", "C:x", ".hidden", "x\0", "x\n", "x."],
)
def test_a_name_that_could_leave_the_cache_is_refused(name: str, cache: Path) -> None:  # noqa: F811
    with pytest.raises(RegistryError) as caught:
        place_of(name)
    assert caught.value.reason is ReasonCode.PATH_OUTSIDE_CACHE


@given(names=st.lists(st.text(max_size=12), min_size=1, max_size=4))
def test_no_name_at_all_leads_outside_the_cache(names: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SMALLMIND_CACHE_DIR", "/cache")
        try:
            path = place_of(*names)
        except RegistryError:
            return
        assert path.resolve().is_relative_to(Path("/cache").resolve())


@pytest.mark.parametrize(
    "reference",
    ["hf:owner/../x.gguf", "hf:../../x.gguf", "hf:o/r//x.gguf", "hf:o/r/a/../../x.gguf"],
)
def test_a_hub_reference_that_could_leave_the_cache_is_refused(
    reference: str,
    cache: Path,  # noqa: F811
) -> None:
    with pytest.raises(RegistryError) as caught:
        _registry.pull(reference)
    assert caught.value.reason is ReasonCode.PATH_OUTSIDE_CACHE


def test_a_hub_reference_needs_owner_repository_and_file() -> None:
    assert HubFile.parse("hf:owner/repo/sub/m.gguf") == HubFile("owner/repo", "sub/m.gguf")
    with pytest.raises(RegistryError, match=r"hf:owner/repository/file\.gguf"):
        HubFile.parse("hf:owner/repo")


def test_the_cache_folder_is_read_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMALLMIND_CACHE_DIR", "~/models")
    assert _registry.cache_dir() == Path.home() / "models"
    monkeypatch.delenv("SMALLMIND_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert _registry.cache_dir().parts[-2:] == ("smallmind", "models")


def test_without_platformdirs_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SMALLMIND_CACHE_DIR", raising=False)
    monkeypatch.setitem(sys.modules, "platformdirs", None)
    with pytest.raises(MissingExtraError, match=r'pip install "smallmind\[cli\]"'):
        _registry.cache_dir()
