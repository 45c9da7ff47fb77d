"""The check on forks: in a process of its own where the exporter can be made there."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from typing import Final

from smallmind.testing._samples import request_events
from smallmind_engine.telemetry import Exporter

TIMEOUT_S: Final = 60.0
FLUSH_S: Final = 5.0
_NOT_THERE: Final = 99
_SCRIPT: Final = """
import sys
sys.path[:0] = {path!r}
from smallmind.testing._fork import found, in_this_process
try:
    make = found({module!r}, {name!r})
except Exception:
    sys.exit({not_there})
fault = in_this_process(make)
if fault:
    sys.exit(fault)
"""


def forked_delivery(make: Callable[[], Exporter]) -> str:
    """What goes wrong when an exporter is forked; empty when nothing does.

    A fork of a process with threads is a risk of its own, so a function or class that a fresh
    process can import is tried in one; any other is tried here.
    """
    if not hasattr(os, "fork"):
        return ""
    module, name = getattr(make, "__module__", ""), getattr(make, "__qualname__", "")
    if module == "__main__" or not _is_found(make, module, name):
        return in_this_process(make)
    script = _SCRIPT.format(path=sys.path, module=module, name=name, not_there=_NOT_THERE)
    done = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, "-c", script],
        timeout=TIMEOUT_S,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == _NOT_THERE:
        return in_this_process(make)
    return "" if done.returncode == 0 else done.stderr.strip() or f"exit code {done.returncode}"


def found(module: str, name: str) -> Callable[[], Exporter]:
    """A function or class by the names of its module and its own."""
    made = importlib.import_module(module)
    for part in name.split("."):
        made = getattr(made, part)
    return made  # type: ignore[return-value]  # as it was handed in


def _is_found(make: Callable[[], Exporter], module: str, name: str) -> bool:
    """Whether the names lead back to it; those of a bound method or a lambda do not."""
    try:
        return found(module, name) is make
    except Exception:  # noqa: BLE001 - whatever an import may raise
        return False


def in_this_process(make: Callable[[], Exporter]) -> str:
    """Fork here, deliver in both processes; what goes wrong, or nothing."""
    exporter = make()
    events = [event for event in request_events() if event.kind & exporter.interests]
    of_child = [event for event in request_events(tokens=1) if event.kind & exporter.interests]
    for event in events:
        exporter.export(event)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the fork of a threaded process
        pid = os.fork()
    if pid == 0:  # pragma: no cover - runs in forked children, which are not measured
        code = 1
        try:
            for event in of_child:
                exporter.export(event)
            result = exporter.flush(FLUSH_S)
            exporter.close()
            code = 0 if result.complete and result.delivered == len(of_child) else 2
        finally:
            os._exit(code)
    code = _exit_code(pid)
    delivered = exporter.flush(FLUSH_S).delivered
    exporter.close()
    if code:
        return {1: "the child raised", 2: "the child did not deliver just its own events"}.get(
            code, f"the child ended with {code}"
        )
    if delivered != len(events):
        return f"the parent delivered {delivered} of {len(events)} events"
    return ""


def _exit_code(pid: int) -> int:
    deadline_s = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline_s:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    return -9
