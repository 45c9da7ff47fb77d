"""Values are shown in few characters."""

from __future__ import annotations

import pytest

from draw import shown


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0123, "s", "12.3 ms"),
        (0.00001, "s", "10 µs"),
        (2.5, "s", "2.5 s"),
        (0.125, "percentunit", "12.5 %"),
        (3.2e9, "Bps", "3.2 GB/s"),
        (1536, "bytes", "1.54 kB"),
        (12, "short", "12"),
        (0.25, "reqps", "0.25 req/s"),
        (float("nan"), "short", "-"),
    ],
)
def test_a_value_is_shown_with_its_unit(value, unit, text):
    assert shown(value, unit) == text
