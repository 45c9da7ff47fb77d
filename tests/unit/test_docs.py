"""The examples in the README and the manual run."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from otlp_receiver import http_receiver

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
EXAMPLES = [
    pytest.param(block, id=f"{page.relative_to(ROOT)}-{number}")
    for page in PAGES
    for number, block in enumerate(BLOCK.findall(page.read_text(encoding="utf-8")))
]


@pytest.fixture
def _surroundings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A receiver of OTLP, and a configuration of structlog and signals that is put back."""
    before, handler = structlog.get_config(), signal.getsignal(signal.SIGTERM)
    with http_receiver() as received:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", received.endpoint)
        yield
    structlog.configure(**before)
    signal.signal(signal.SIGTERM, handler)


@pytest.mark.model
@pytest.mark.parametrize("example", EXAMPLES)
@pytest.mark.usefixtures("_surroundings")
@pytest.mark.usefixtures("smollm2_path")
def test_example_runs(example: str) -> None:
    exec(compile(example, "<example>", "exec"), {"__name__": "__example__"})  # noqa: S102


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
