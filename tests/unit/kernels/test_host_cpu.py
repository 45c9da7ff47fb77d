"""The processor is remembered, and asked for again when it is another."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("llvmlite")

from smallmind_engine.kernels.numba_backend import host_cpu as module
from smallmind_engine.kernels.numba_backend.host_cpu import HostCpu, asked_of_llvm, host_cpu

MADE_UP = HostCpu("made-up", "no-cpu", {"avx2": True, "sse": False})


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file; how often LLVM was asked is in ``asked``."""
    monkeypatch.setenv("SMALLMIND_CACHE_DIR", str(tmp_path))
    description = tmp_path / "cpuinfo"
    description.write_text("processor\t: 0\nmodel name\t: A\nflags\t\t: sse avx2\ncpu MHz\t: 1\n\n")
    monkeypatch.setattr(module, "_PROC", description)
    monkeypatch.setattr(module, "asked_of_llvm", lambda: MADE_UP)
    module.host_cpu.cache_clear()
    yield tmp_path / "host-cpu.json"
    module.host_cpu.cache_clear()


def again(monkeypatch: pytest.MonkeyPatch, answer: HostCpu | None = None) -> HostCpu:
    """Ask as a new process does; LLVM is not there unless it has an ``answer``."""

    def asked() -> HostCpu:
        if answer is None:
            raise AssertionError
        return answer

    monkeypatch.setattr(module, "asked_of_llvm", asked)
    module.host_cpu.cache_clear()
    return module.host_cpu()


OTHER = HostCpu("made-up", "another", {})


def test_the_second_process_does_not_ask_llvm(kept, monkeypatch):
    assert host_cpu() == MADE_UP
    assert kept.exists()
    assert again(monkeypatch) == MADE_UP


def test_a_processor_at_another_speed_is_the_same(kept, monkeypatch):
    host_cpu()
    module._PROC.write_text(module._PROC.read_text().replace("MHz\t: 1", "MHz\t: 2"))
    assert again(monkeypatch) == MADE_UP


def test_another_processor_is_asked_for(kept, monkeypatch):
    host_cpu()
    module._PROC.write_text(module._PROC.read_text().replace("avx2", "avx2 avx512f"))
    assert again(monkeypatch, OTHER) == OTHER
    assert again(monkeypatch) == OTHER


def test_another_llvm_is_asked(kept, monkeypatch):
    host_cpu()
    monkeypatch.setattr(module, "version", lambda _: "999")
    assert again(monkeypatch, OTHER) == OTHER


@pytest.mark.parametrize("content", ["", "{", "[]", '{"key": 1}', "\x00"])
def test_a_file_that_is_damaged_is_written_anew(kept, monkeypatch, content):
    host_cpu()
    kept.write_text(content)
    assert again(monkeypatch, OTHER) == OTHER
    assert json.loads(kept.read_text())["name"] == "another"


def test_a_file_with_other_types_is_written_anew(kept, monkeypatch):
    host_cpu()
    kept.write_text(json.dumps({**json.loads(kept.read_text()), "features": ["avx2"]}))
    assert again(monkeypatch, OTHER) == OTHER


def test_a_folder_that_cannot_be_written_is_done_without(kept, monkeypatch, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("SMALLMIND_CACHE_DIR", str(blocked))
    assert host_cpu() == MADE_UP
    assert blocked.read_text() == ""


def test_a_system_that_describes_no_processor_is_asked_each_time(kept, monkeypatch):
    module._PROC.unlink()
    assert host_cpu() == MADE_UP
    assert not kept.exists()


def test_what_llvm_says_is_what_it_is():
    from llvmlite import binding

    assert asked_of_llvm() == HostCpu(
        binding.get_process_triple(),
        binding.get_host_cpu_name(),
        dict(binding.get_host_cpu_features()),
    )
