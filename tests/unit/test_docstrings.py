"""The examples in docstrings run."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest


def modules() -> list[str]:
    found: list[str] = []
    for root in ("smallmind", "smallmind_engine", "smallmind_exporters"):
        package = importlib.import_module(root)
        found += [info.name for info in pkgutil.walk_packages(package.__path__, f"{root}.")]
    return [name for name in found if not name.endswith(("__main__", "hub_child"))]


@pytest.mark.parametrize("name", modules())
def test_examples_of_the_module_run(name: str) -> None:
    failures, _ = doctest.testmod(importlib.import_module(name))
    assert failures == 0
