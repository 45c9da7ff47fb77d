"""Results as JSON documents."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from smallmind import StopReason, Usage
from smallmind._cli.json_documents import emit, plain


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (3, 3),
        ("x", "x"),
        (0.5, 0.5),
        (float("inf"), None),
        (float("nan"), None),
        (np.float32(0.5), 0.5),
        (np.float64("nan"), None),
        (np.arange(3), [0, 1, 2]),
        (np.int64(7), 7),
        (Path("a/b"), str(Path("a/b"))),
        (StopReason.MAX_TOKENS, "MAX_TOKENS"),
        ({StopReason.ERROR: (1, float("-inf"))}, {"ERROR": [1, None]}),
        (frozenset({2, 1}), [1, 2]),
        ([{"a": ()}], [{"a": []}]),
        (Usage(1, 2, 3), {"prompt_tokens": 1, "cached_tokens": 2, "completion_tokens": 3}),
    ],
)
def test_values_become_plain(value, expected):
    assert plain(value) == expected


def test_a_document_is_all_there_is(capsys):
    emit({"text": "é\udce9", "figure": float("nan")})
    assert json.loads(capsys.readouterr().out) == {"text": "é\udce9", "figure": None}
