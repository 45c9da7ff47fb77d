"""The reference page of the command line says what the commands say."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from smallmind._cli.exit_codes import ExitCode

DOCS = Path(__file__).parents[3] / "docs"


@pytest.fixture(scope="module")
def page() -> str:
    spec = importlib.util.spec_from_file_location("cli_page", DOCS / "pages/cli_page.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.render_cli_page()


def test_the_page_on_disk_is_the_one_the_commands_give(page):
    assert (DOCS / "reference/cli.md").read_text(encoding="utf-8") == page


def test_every_exit_code_is_on_it(page):
    for code in ExitCode:
        assert f"| {code.value} |" in page
