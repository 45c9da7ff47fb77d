"""A real Prometheus for tests: started on a free port, asked over its HTTP API, and ended again."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

START_TIMEOUT_S = 60.0
QUERY_TIMEOUT_S = 30.0

_CONFIG = """\
global:
  scrape_interval: {every}
  scrape_timeout: {every}
  evaluation_interval: 500ms
scrape_configs:
  - job_name: smallmind
    static_configs:
      - targets: ["{target}"]
"""
_RULES = """\
rule_files: ["{rules}"]
"""
_ALERTING = """\
alerting:
  alertmanagers:
    - static_configs:
        - targets: ["{alertmanager}"]
"""

_T = TypeVar("_T")


def find_binary(name: str) -> str:
    """Path of a server or tool of Prometheus; skips the test without it, fails it in CI.

    ``PROMETHEUS_BIN`` names the server; the others are looked for beside it too. Debian calls
    the Alertmanager ``prometheus-alertmanager``.
    """
    server = os.environ.get("PROMETHEUS_BIN") or shutil.which("prometheus")
    if name == "prometheus":
        found = server
    else:
        beside = Path(server).with_name(name) if server else None
        found = str(beside) if beside and beside.exists() else shutil.which(name)
    if found is not None:
        return found
    package = "prometheus-alertmanager" if "alertmanager" in name else "prometheus"
    message = f"{name} is not installed: apt-get install {package}, or set PROMETHEUS_BIN"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


def eventually(
    look: Callable[[], _T], good: Callable[[_T], bool], timeout_s: float = QUERY_TIMEOUT_S
) -> _T:
    """What ``look`` sees once it is ``good``; fails with the last sight when the time is up."""
    deadline = time.monotonic() + timeout_s
    while True:
        seen = look()
        if good(seen):
            return seen
        if time.monotonic() > deadline:
            pytest.fail(f"not within {timeout_s} s; last seen: {seen!r}")
        time.sleep(0.05)  # between two looks; the condition decides


@dataclass(frozen=True, slots=True)
class PrometheusServer:
    """A running Prometheus.

    Attributes:
        url: of its HTTP API, without the path.
        process: to end it by.
    """

    url: str
    process: subprocess.Popen[bytes]

    def api(self, path: str, **parameters: str) -> Any:
        """The ``data`` of an answer of ``/api/v1/<path>``."""
        query = f"?{urlencode(parameters)}" if parameters else ""
        with urlopen(f"{self.url}/api/v1/{path}{query}", timeout=10) as response:  # noqa: S310 - http to our own child
            answer = json.load(response)
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expression: str) -> dict[tuple[tuple[str, str], ...], float]:
        """Values by labels, without those of the scrape and the name of the metric."""
        rows = self.api("query", query=expression)["result"]
        scrape = {"__name__", "instance", "job"}
        return {
            tuple(sorted((k, v) for k, v in row["metric"].items() if k not in scrape)): float(
                row["value"][1]
            )
            for row in rows
        }

    def ready(self) -> bool:
        """Whether it answers queries."""
        try:
            with urlopen(f"{self.url}/-/ready", timeout=5) as response:  # noqa: S310 - http to our own child
                return response.status == 200
        except (URLError, OSError):
            return False


@contextmanager
def running_prometheus(
    target: str,
    folder: Path,
    *,
    every: str = "300ms",
    rules: Path | None = None,
    alertmanager: str = "",
) -> Iterator[PrometheusServer]:
    """A Prometheus that scrapes ``target`` (``host:port``).

    Args:
        target: what it scrapes.
        folder: for its configuration, data and log.
        every: how often, and how long a scrape may take.
        rules: a file of rules, evaluated twice a second.
        alertmanager: where alerts go, as ``host:port``.
    """
    binary = find_binary("prometheus")
    config = folder / "prometheus.yml"
    text = _CONFIG.format(target=target, every=every)
    text += _RULES.format(rules=rules) if rules else ""
    text += _ALERTING.format(alertmanager=alertmanager) if alertmanager else ""
    config.write_text(text, encoding="utf-8")
    port = free_port()
    command = [
        binary,
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--enable-feature=exemplar-storage",
    ]
    with running_server(command, folder / "prometheus.log") as process:
        server = PrometheusServer(f"http://127.0.0.1:{port}", process)
        eventually(lambda: server.ready() or process.poll() is not None, bool, START_TIMEOUT_S)
        if process.poll() is not None:
            pytest.fail((folder / "prometheus.log").read_text(encoding="utf-8")[-2000:])
        yield server


@contextmanager
def running_server(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A server of others, as a child process that ends with the block."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(20)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
