"""Where compiled kernels are kept, and what their key knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from smallmind_engine.kernels.numba_backend.cache_location import (
    cache_key,
    remove_unused,
    source_digest,
)
from smallmind_engine.kernels.numba_backend.cache_root import cache_root

TIER = "toy"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    (tmp_path / "kernels.py").write_text("ONE = 1\n")
    return tmp_path


def test_a_changed_source_is_another_key(package: Path) -> None:
    pytest.importorskip("numba")
    before = source_digest(package)
    key = cache_key(TIER, package)

    (package / "nested").mkdir()
    (package / "nested" / "intrinsics.py").write_text("ONE = 1\n")

    assert source_digest(package) != before
    assert cache_key(TIER, package) != key


def test_bytes_that_move_between_files_change_the_digest(tmp_path: Path) -> None:
    digests = set()
    for place, (first, second) in enumerate((("a", "bc"), ("ab", "c"))):
        folder = tmp_path / str(place)
        folder.mkdir()
        (folder / "a.py").write_text(first)
        (folder / "b.py").write_text(second)
        digests.add(source_digest(folder))
    assert len(digests) == 2


def test_another_tier_cpu_or_setting_is_another_key(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("numba")
    keys = [cache_key("avx2", package), cache_key("portable", package)]
    monkeypatch.setenv("NUMBA_CPU_NAME", "generic")
    keys.append(cache_key("avx2", package))
    monkeypatch.setenv("NUMBA_BOUNDSCHECK", "1")
    keys.append(cache_key("avx2", package))

    assert len(set(keys)) == 4


def test_a_missing_folder_has_nothing_to_remove(tmp_path: Path) -> None:
    assert remove_unused(tmp_path / "nowhere", "key") == []


@pytest.mark.parametrize(
    ("platform", "environment", "expected"),
    [
        ("linux", {"SMALLMIND_CACHE_DIR": "/c", "XDG_CACHE_HOME": "/x"}, "/c"),
        ("linux", {"SMALLMIND_CACHE_DIR": "~/c"}, "/home/me/c"),
        ("linux", {"XDG_CACHE_HOME": "/x"}, "/x/smallmind"),
        ("linux", {"XDG_CACHE_HOME": "relative"}, "/home/me/.cache/smallmind"),
        ("linux", {}, "/home/me/.cache/smallmind"),
        ("darwin", {}, "/home/me/Library/Caches/smallmind"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/smallmind/Cache"),
        ("win32", {}, "/home/me/AppData/Local/smallmind/Cache"),
    ],
)
def test_the_cache_lies_where_the_platform_keeps_caches(
    platform: str,
    environment: dict[str, str],
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert cache_root(environment, platform) == Path(expected)


def test_the_cache_lies_beside_the_models(monkeypatch: pytest.MonkeyPatch) -> None:
    platformdirs = pytest.importorskip("platformdirs")
    monkeypatch.delenv("SMALLMIND_CACHE_DIR", raising=False)
    assert cache_root() == platformdirs.user_cache_path("smallmind", appauthor=False)


def test_without_a_home_there_is_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError

    monkeypatch.setattr(Path, "home", homeless)
    assert cache_root({}) is None
