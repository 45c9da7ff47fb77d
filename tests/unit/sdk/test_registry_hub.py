"""Files of the Hub. The Hub itself cannot be reached from a test; a small package stands for its
client at that border, in a real child process."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest

from registry_fixtures import cache  # noqa: F401 - a fixture
from smallmind import _registry
from smallmind._registry import PullProgress, PullStage
from smallmind_engine.control import WorkLimit
from smallmind_engine.telemetry import (
    MissingExtraError,
    OperationCancelledError,
    ReasonCode,
    RegistryError,
)

# ruff: noqa: F811 - fixtures are imported, and then named as arguments

MODEL = b"GGUF" + bytes(5_000)
REFERENCE = "hf:owner/repo/sub/model.gguf"
CLIENT = """
import os, sys, time
from pathlib import Path
from types import SimpleNamespace

def hf_hub_url(repo, file):
    return repo + '/' + file

def get_hf_file_metadata(url):
    assert url == 'owner/repo/sub/model.gguf', url
    return SimpleNamespace(size=SIZE, etag=ETAG, commit_hash='abc')

def hf_hub_download(repo, file, *, revision, local_dir):
    assert revision == 'abc'
    print('{ a line that is no JSON')
    path = Path(local_dir) / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b'GGUF' + bytes(5_000))
    ACTION
    return str(path)
"""


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for ``huggingface_hub``, which tells the truth unless it is edited."""
    folder = tmp_path / "site"
    package = folder / "huggingface_hub"
    package.mkdir(parents=True)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.syspath_prepend(folder)
    module = package / "__init__.py"
    write_client(module)
    return module


def write_client(
    module: Path, size: object = len(MODEL), etag: str | None = None, action: str = "pass"
) -> None:
    etag = hashlib.sha256(MODEL).hexdigest() if etag is None else etag
    source = CLIENT.replace("SIZE", repr(size)).replace("ETAG", repr(etag))
    module.write_text(source.replace("ACTION", action), encoding="utf-8")


def test_a_file_of_the_hub_is_pulled_once(cache: Path, client: Path) -> None:
    seen: list[PullProgress] = []
    path = _registry.resolve(REFERENCE, on_progress=seen.append)
    assert path == cache / "hub" / "owner" / "repo" / "sub" / "model.gguf"
    assert path.read_bytes() == MODEL
    assert PullProgress(PullStage.DOWNLOAD, len(MODEL), len(MODEL)) in seen
    assert seen[-1] == PullProgress(PullStage.VERIFY, len(MODEL), len(MODEL))
    client.unlink()
    assert _registry.resolve(REFERENCE) == path
    assert sorted(p.name for p in path.parent.iterdir()) == [
        "model.gguf",
        "model.gguf.json",
        "model.gguf.lock",
    ]


def test_a_small_file_without_a_sha256_is_checked_by_its_size(cache: Path, client: Path) -> None:
    write_client(client, etag="0123456789abcdef")
    assert _registry.pull(REFERENCE).read_bytes() == MODEL


@pytest.mark.parametrize(("size", "etag"), [(7, None), (len(MODEL), "0" * 64)])
def test_a_file_that_is_not_what_the_hub_announced_is_thrown_away(
    cache: Path, client: Path, size: int, etag: str | None
) -> None:
    write_client(client, size, etag)
    with pytest.raises(RegistryError) as caught:
        _registry.pull(REFERENCE)
    assert caught.value.reason is ReasonCode.DOWNLOAD_CHECKSUM_MISMATCH
    folder = cache / "hub" / "owner" / "repo" / "sub"
    assert [path.name for path in folder.iterdir()] == ["model.gguf.lock"]


def test_a_failed_download_is_told_in_the_clients_own_words(cache: Path, client: Path) -> None:
    write_client(client, action="raise OSError('gated repository')")
    with pytest.raises(RegistryError, match="gated repository") as caught:
        _registry.pull(REFERENCE)
    assert caught.value.reason is ReasonCode.DOWNLOAD_FAILED


def test_a_download_from_the_hub_can_be_cancelled(cache: Path, client: Path) -> None:
    write_client(client, action="time.sleep(60)")
    with pytest.raises(OperationCancelledError):
        _registry.pull(REFERENCE, limit=WorkLimit.within(0.3))


def test_without_the_client_the_error_names_the_extra(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r'pip install "smallmind\[hub\]"'):
        _registry.pull(REFERENCE)
