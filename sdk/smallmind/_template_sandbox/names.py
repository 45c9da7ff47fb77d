"""Names that no template may touch: Python's own, between double underscores."""

from __future__ import annotations

from jinja2.exceptions import SecurityError


def check_name(name: object) -> None:
    """Refuse a name of Python's own, however the template came by it.

    Jinja's sandbox answers such a name with an undefined value, which prints as nothing. Nothing
    but an attack asks for one, so it is an error here.

    Raises:
        SecurityError: with the name.
    """
    if isinstance(name, str) and name.startswith("__"):
        raise SecurityError(f"the name {name[:40]!r} is out of reach")
