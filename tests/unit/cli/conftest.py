"""A tiny model, and a runner that gives commands streams of their own."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from engines import TINY
from smallmind._cli.app import app
from tiny_models import write_tiny_model


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny.gguf", TINY)


@pytest.fixture
def cli(tiny_path, monkeypatch):
    """Runs ``smallmind`` with these arguments; MODEL stands for the tiny model."""
    monkeypatch.delenv("SMALLMIND_EXPORTERS", raising=False)
    monkeypatch.delenv("TRACEPARENT", raising=False)

    def run(*arguments: str, stdin: str | bytes | None = None) -> Result:
        typed = [str(tiny_path) if each == "MODEL" else each for each in arguments]
        return CliRunner().invoke(app, typed, input=stdin, prog_name="smallmind")

    return run
