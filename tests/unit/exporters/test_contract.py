"""The contract of exporters, over every exporter that the package offers."""

from __future__ import annotations

from importlib.metadata import entry_points

import pytest

from exporter_contract import CHECKS

EXPORTERS = {found.name: found for found in entry_points(group="smallmind.exporters")}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
@pytest.mark.parametrize("name", sorted(EXPORTERS))
def test_exporter_keeps_the_contract(name, check):
    check(EXPORTERS[name].load())


@pytest.mark.parametrize("name", sorted(EXPORTERS))
def test_exporter_is_named_as_its_entry_point(name):
    exporter = EXPORTERS[name].load()()
    assert exporter.name == name
    exporter.close()


@pytest.mark.parametrize("name", sorted(EXPORTERS))
def test_exporter_is_a_context_manager(name):
    with EXPORTERS[name].load()() as exporter:
        assert exporter.name == name
