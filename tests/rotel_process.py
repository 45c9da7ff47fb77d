"""A real OpenTelemetry collector, rotel, in a process of its own on loopback."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import rotel

START_S = 20.0


@contextmanager
def running_rotel(target: str, folder: Path) -> Iterator[dict[str, str]]:
    """Start a collector that passes everything on to ``target`` over gRPC.

    Yields:
        Its own endpoints, by protocol.
    """
    ports = {"grpc": _free_port(), "http/protobuf": _free_port()}
    log = folder / "rotel.log"
    command = [
        str(Path(rotel.__file__).parent / "rotel-agent"),
        "start",
        f"--otlp-grpc-endpoint=127.0.0.1:{ports['grpc']}",
        f"--otlp-http-endpoint=127.0.0.1:{ports['http/protobuf']}",
        "--exporter=otlp",
        f"--otlp-exporter-endpoint={target}",
        "--otlp-exporter-protocol=grpc",
        "--batch-timeout=50ms",
        f"--pid-file={folder / 'rotel.pid'}",
        f"--log-file={log}",
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env={})
    try:
        for port in ports.values():
            _wait_for(port, process, log)
        yield {protocol: f"http://127.0.0.1:{port}" for protocol, port in ports.items()}
    finally:
        process.terminate()
        process.wait(20)


def _free_port() -> int:
    with closing(socket.socket()) as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline_s = time.monotonic() + START_S
    while time.monotonic() < deadline_s:
        if process.poll() is not None:
            raise RuntimeError(f"rotel ended at once: {log.read_text()}")
        with closing(socket.socket()) as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise RuntimeError(f"rotel does not listen on {port}: {log.read_text()}")
