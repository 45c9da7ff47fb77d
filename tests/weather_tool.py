"""A tool to test with: a function, and the schema that describes it."""

from __future__ import annotations


def weather(city: str, days: int = 1) -> dict[str, object]:
    """Tell the weather.

    Of any town.

    Args:
        city: its name,
            in English.
        days: how many.

    Returns:
        What it will be.
    """
    return {"city": city, "sun": days}


SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "description": "its name, in English."},
        "days": {"type": "integer", "description": "how many."},
    },
    "additionalProperties": False,
    "required": ["city"],
}
