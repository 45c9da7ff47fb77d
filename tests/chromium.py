"""Opens a page in a headless Chromium: what it became, what it said, what it asked the network."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--virtual-time-budget=4000",
)
OF_THE_BROWSER_ITSELF = (".google.com",)


@dataclass(frozen=True)
class Visit:
    """What came of opening a page.

    Attributes:
        dom: the document after its script ran, as HTML.
        console: messages of the console, errors and refusals of the security policy included.
        requested: addresses that were asked for, without the browser's own.
    """

    dom: str
    console: list[str]
    requested: set[str]


def find_chromium() -> str:
    """The browser; the test is skipped where there is none."""
    found = os.environ.get("CHROMIUM_BIN") or shutil.which("chromium") or shutil.which("chrome")
    if not found:
        pytest.skip("no Chromium: install it, or set CHROMIUM_BIN")
    return found


def visit(page: Path, folder: Path) -> Visit:
    """Open ``page``; ``folder`` is for the browser's own files."""
    log = folder / "net.json"
    flags = [*FLAGS, f"--user-data-dir={folder / 'profile'}", f"--log-net-log={log}"]
    done = subprocess.run(
        [find_chromium(), *flags, "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=90,
        check=True,
    )
    console = re.findall(r"CONSOLE[:(]\d+\)?\] (.*)", done.stderr)
    return Visit(done.stdout, console, _requested(log))


def _requested(log: Path) -> set[str]:
    text = log.read_text(encoding="utf-8", errors="replace")
    try:
        document = json.loads(text)
    except ValueError:  # the browser ended before it closed the array
        document = json.loads(text.rstrip().rstrip(",") + "]}")
    urls = {
        event["params"]["url"] for event in document["events"] if "url" in event.get("params", ())
    }
    return {
        url
        for url in urls
        if not (urlsplit(url).hostname or "").endswith(OF_THE_BROWSER_ITSELF)
        and not url.startswith(("data:", "chrome:", "file:"))
    }
