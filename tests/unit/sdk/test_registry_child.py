"""The child process that downloads: how it is chosen, stopped, and quoted."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import pytest

from smallmind._registry import child, wheels
from smallmind_engine.control import CancellationToken, WorkLimit
from smallmind_engine.telemetry import OperationCancelledError, ReasonCode, RegistryError


def test_without_pip_uv_is_asked_and_without_both_the_error_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pip", None)
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
    assert wheels._installer()[:3] == ["/bin/uv", "tool", "run"]
    monkeypatch.setattr("shutil.which", lambda _name: None)
    with pytest.raises(RegistryError, match="neither pip nor uv"):
        wheels._installer()


def test_cancelling_ends_the_installer_and_its_children_at_once(tmp_path: Path) -> None:
    """The child starts a grandchild, which must not outlive it."""
    script = (
        "import subprocess,sys,time;"
        "p=subprocess.Popen([sys.executable,'-c','import time;time.sleep(60)']);"
        "print(p.pid,flush=True);time.sleep(60)"
    )
    log, token, cancelled_at = tmp_path / "log", CancellationToken(), []

    def tick() -> None:
        if log.read_text().endswith("\n") and not cancelled_at:
            cancelled_at.append(time.perf_counter())
            threading.Thread(target=token.cancel).start()

    with pytest.raises(OperationCancelledError) as caught:
        child.run(
            [sys.executable, "-c", script],
            temp=tmp_path,
            log=log,
            limit=WorkLimit(token),
            work="downloading",
            on_tick=tick,
        )
    assert caught.value.reason is ReasonCode.CANCELLED_BY_CALLER
    assert time.perf_counter() - cancelled_at[0] < 2.0  # measured: 30 ms; machines under load vary
    assert ends_soon(int(log.read_text()))


def ends_soon(pid: int) -> bool:
    """Whether a process that was sent a kill is gone before long."""
    give_up_at = time.perf_counter() + 10
    while is_running(pid) and time.perf_counter() < give_up_at:
        time.sleep(0.01)
    return not is_running(pid)


def is_running(pid: int) -> bool:
    """Whether a process is alive; one that ended but was not yet collected is not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except FileNotFoundError:
        return False
    return state.rpartition(") ")[2][0] != "Z"


def test_the_childs_last_words_are_kept_short(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("a warning\n\nERROR: first\nnoise\nERROR: " + "x" * 900 + "y")
    assert child.tail_of(log).endswith("xy")
    assert len(child.tail_of(log)) == 600
    log.write_text("only this\n")
    assert child.tail_of(log) == "only this"
    log.write_text("")
    assert child.tail_of(log) == "it said nothing"
