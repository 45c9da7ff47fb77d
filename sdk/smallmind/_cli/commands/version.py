"""``smallmind version``."""

from __future__ import annotations

import platform

import numpy as np

from smallmind._cli.json_documents import emit
from smallmind._cli.parameters import AsJson
from smallmind._cli.screen import Screen
from smallmind._exporters import exporter_names
from smallmind._version import __version__
from smallmind_engine.kernels import backend_names


def version(*, as_json: AsJson = False) -> None:
    """Tell the versions of what would run."""
    document = {
        "smallmind": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "platform": f"{platform.system()} {platform.machine()}",
        "backends": backend_names()[1:],
        "exporters": exporter_names(),
    }
    if as_json:
        emit(document)
        return
    Screen.open().line(
        f"smallmind {__version__} (Python {document['python']}, NumPy {document['numpy']},"
        f" {document['platform']})"
    )
