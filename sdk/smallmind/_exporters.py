"""Exporters by name: every installed package may offer some, under one entry-point group."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import Final, cast

from smallmind_engine.telemetry import Exporter, ReasonCode
from smallmind_engine.telemetry.errors import ExporterError

GROUP: Final = "smallmind.exporters"
ENVIRONMENT_VARIABLE: Final = "SMALLMIND_EXPORTERS"


def exporter_names() -> tuple[str, ...]:
    """Names of the exporters that are installed."""
    return tuple(sorted(_found()))


def create_exporter(name: str, **options: object) -> Exporter:
    """Make the exporter of that name.

    Args:
        name: of its entry point.
        options: its settings; the defaults for the others.

    Raises:
        ExporterError: no installed package offers one of that name.
        MissingExtraError: it needs a package that is not installed.
    """
    found = _found()
    if name not in found:
        raise ExporterError(
            ReasonCode.EXPORTER_UNKNOWN,
            f"there is no exporter {name!r}; installed: {', '.join(sorted(found)) or 'none'}",
            exporter=name,
        )
    make = cast("Callable[..., Exporter]", found[name].load())
    return make(**options)


def requested(exporters: Iterable[Exporter | str] | None) -> tuple[Exporter | str, ...]:
    """What the caller asked for, or else the environment variable."""
    if exporters is not None:
        return (exporters,) if isinstance(exporters, str) else tuple(exporters)
    names = os.environ.get(ENVIRONMENT_VARIABLE, "")
    return tuple(name.strip() for name in names.split(",") if name.strip())


def _found() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}
