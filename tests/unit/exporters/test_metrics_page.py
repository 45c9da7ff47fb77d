"""The reference page of the metrics says what the table says."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from smallmind_exporters.metrics import FAMILIES, PREFIX

DOCS = Path(__file__).parents[3] / "docs"


@pytest.fixture(scope="module")
def page():
    spec = importlib.util.spec_from_file_location("metrics_page", DOCS / "pages/metrics_page.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.render_metrics_page()


def test_the_page_on_disk_is_the_one_the_table_gives(page):
    assert (DOCS / "reference/metrics.md").read_text(encoding="utf-8") == page


def test_every_metric_has_an_entry_of_its_own(page):
    titles = [line.strip("#` ") for line in page.splitlines() if line.startswith("### ")]
    assert sorted(titles) == sorted(PREFIX + family.name for family in FAMILIES)


def test_every_label_is_explained(page):
    used = {label.name for family in FAMILIES for label in family.labels}
    explained = {line.split("`")[1] for line in page.splitlines() if line.startswith("| `")}
    assert explained == used
