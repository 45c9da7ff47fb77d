"""A real Alertmanager for tests, and a webhook that receives what it sends."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from prometheus_process import (
    START_TIMEOUT_S,
    eventually,
    find_binary,
    free_port,
    running_server,
)

_CONFIG = """\
route:
  receiver: webhook
  group_by: ["alertname"]
  group_wait: 100ms
  group_interval: 1s
receivers:
  - name: webhook
    webhook_configs:
      - url: "{url}"
"""


@dataclass
class Webhook:
    """Keeps the names of the alerts that arrive, with their summaries."""

    received: dict[str, set[str]] = field(default_factory=dict)

    def take(self, body: bytes) -> None:
        for alert in json.loads(body)["alerts"]:
            name = alert["labels"]["alertname"]
            self.received.setdefault(name, set()).add(alert["annotations"]["summary"])


@contextmanager
def listening_webhook() -> Iterator[tuple[Webhook, str]]:
    """A receiver of alerts, and its address."""
    webhook = Webhook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            webhook.take(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield webhook, f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def running_alertmanager(folder: Path, webhook: str) -> Iterator[str]:
    """An Alertmanager that sends to ``webhook``; answers its ``host:port``."""
    config = folder / "alertmanager.yml"
    config.write_text(_CONFIG.format(url=webhook), encoding="utf-8")
    address = f"127.0.0.1:{free_port()}"
    log = folder / "alertmanager.log"
    command = [
        find_binary("prometheus-alertmanager"),
        f"--config.file={config}",
        f"--storage.path={folder / 'alerts'}",
        f"--web.listen-address={address}",
        "--cluster.listen-address=",
    ]
    with running_server(command, log) as process:

        def ready() -> bool:
            try:
                with urlopen(f"http://{address}/-/ready", timeout=5) as answer:
                    return answer.status == 200
            except (URLError, OSError):
                return False

        eventually(lambda: ready() or process.poll() is not None, bool, START_TIMEOUT_S)
        if process.poll() is not None:
            pytest.fail(log.read_text(encoding="utf-8")[-2000:])
        yield address
