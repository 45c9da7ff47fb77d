"""The contract of exporters, over every exporter that the package offers."""

from __future__ import annotations

import io
from collections.abc import Iterator
from importlib.metadata import entry_points

import pytest
import structlog

from otlp_receiver import http_receiver
from smallmind.testing import CHECKS

EXPORTERS = {found.name: found for found in entry_points(group="smallmind.exporters")}


@pytest.fixture(autouse=True, scope="module")
def _ready_to_deliver() -> Iterator[None]:
    """A receiver for what goes over the network, and a quiet structlog."""
    before = structlog.get_config()
    with pytest.MonkeyPatch.context() as patch, http_receiver() as received:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", received.endpoint)
        structlog.configure(logger_factory=structlog.PrintLoggerFactory(io.StringIO()))
        yield
    structlog.configure(**before)


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
