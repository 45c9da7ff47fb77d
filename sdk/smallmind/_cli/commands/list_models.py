"""``smallmind list``."""

from __future__ import annotations

from smallmind._cli.blocks import Column, Grid, Styled
from smallmind._cli.formatting import bytes_text
from smallmind._cli.json_documents import Json, emit
from smallmind._cli.parameters import AsJson
from smallmind._cli.screen import Screen
from smallmind._registry import ModelEntry, cached_path, entries


def list_models(*, as_json: AsJson = False) -> None:
    """Show the models that have a name, and which of them are here already."""
    if as_json:
        emit([_document(entry) for entry in entries()])
        return
    Screen.open().show(
        Grid(
            columns=(
                Column("name", style="bold"),
                Column("size", right=True),
                Column("type"),
                Column("licence"),
                Column("cached"),
                Column("description", fold=True),
            ),
            sections=(
                tuple(
                    (
                        entry.name,
                        bytes_text(entry.size_bytes),
                        entry.quantisation,
                        entry.licence,
                        Styled("yes", "green") if cached_path(entry) else "no",
                        entry.description,
                    )
                    for entry in entries()
                ),
            ),
        )
    )


def _document(entry: ModelEntry) -> Json:
    path = cached_path(entry)
    return {
        "name": entry.name,
        "file_name": entry.file_name,
        "size_bytes": entry.size_bytes,
        "download_bytes": entry.download_bytes,
        "sha256": entry.sha256,
        "licence": entry.licence,
        "licence_url": entry.licence_url,
        "architecture": entry.architecture,
        "quantisation": entry.quantisation,
        "description": entry.description,
        "source": entry.source,
        "cached": path is not None,
        "path": path,
    }
