"""The process of one engine: JSON requests on stdin, one JSON reply on stdout for each.

    python compare_worker.py smallmind

Between requests it waits in a read of stdin, so that it takes no processor time from the engine
that is measured meanwhile.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import IO

from compare_cases import LLAMA_CPP, SMALLMIND, Case
from measured_engine import LoadRequest, MeasuredEngine

ENGINE_CLASSES = {
    SMALLMIND: ("measured_smallmind", "MeasuredSmallmind"),
    LLAMA_CPP: ("measured_llama_cpp", "MeasuredLlamaCpp"),
}


class Worker:
    """Answers requests about one engine."""

    def __init__(self, engine_name: str) -> None:
        self._module, self._class = ENGINE_CLASSES[engine_name]
        self._engine: MeasuredEngine | None = None

    def answer(self, request: dict) -> dict:
        """The reply to a request; its key ``op`` tells what is asked."""
        operations: dict[str, Callable[..., dict]] = {
            "load": self._load,
            "measure": self._measure,
            "close": self._close,
        }
        arguments = {key: value for key, value in request.items() if key != "op"}
        return operations[request["op"]](**arguments)

    def _load(
        self, path: str, threads: int, backend: str, capacity: int, *, keep_packed: bool = False
    ) -> dict:
        begin = time.perf_counter()
        try:
            engine_class = getattr(importlib.import_module(self._module), self._class)
        except ImportError as error:
            return {"missing": str(error)}
        imported = time.perf_counter()
        self._engine = engine_class(
            LoadRequest(
                path=Path(path),
                threads=threads,
                backend=backend,
                capacity=capacity,
                keep_packed=keep_packed,
            )
        )
        loaded = time.perf_counter()
        self._engine.first_token()
        return {
            "import_s": imported - begin,
            "load_s": loaded - imported,
            "first_token_s": time.perf_counter() - imported,
            "about": self._engine.about(),
        }

    def _measure(self, case: dict) -> dict:
        if self._engine is None:
            return {"error": "nothing is loaded"}
        return asdict(self._engine.measure(Case(**case)))

    def _close(self) -> dict:
        if self._engine is not None:
            self._engine.close()
            self._engine = None
        return {}


def memory_bytes() -> dict[str, int | None]:
    """Resident memory of this process, now and at its highest; None where nobody tells.

    Not from ``getrusage``: its peak is handed down from the process that started this one.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {"rss_bytes": None, "peak_rss_bytes": None}
    kib = {line.partition(":")[0]: line.split()[1] for line in lines if line.startswith("Vm")}
    return {
        name: int(kib[key]) * 1024 if key in kib else None
        for name, key in (("rss_bytes", "VmRSS"), ("peak_rss_bytes", "VmHWM"))
    }


def serve(worker: Worker, requests: IO[str], replies: IO[str]) -> None:
    """Answer requests until there are no more, or one is not understood."""
    for line in requests:
        try:
            reply = worker.answer(json.loads(line))
        except Exception:  # noqa: BLE001 - whatever went wrong is for the parent to tell
            reply = {"error": traceback.format_exc()}
        replies.write(json.dumps(reply | memory_bytes()) + "\n")
        replies.flush()


def main() -> None:
    """Serve on stdin and stdout."""
    # Libraries that write to stdout would break the protocol: they get stderr in its place.
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    with replies:
        serve(Worker(sys.argv[1]), sys.stdin, replies)


if __name__ == "__main__":
    main()
