"""Memory does not grow with the number of requests, nor with the number of tokens."""

from __future__ import annotations

from pathlib import Path

import pytest

from smallmind import load
from smallmind_engine.memory import rss_bytes
from tiny_models import FAMILIES, write_tiny_model

WARM_UP = 500
SHARE = 0.02


@pytest.mark.parametrize("backend", ["numba", "numpy"])
@pytest.mark.parametrize("requests", [2_000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_thousands_of_short_requests_leave_no_trace(
    tmp_path: Path, backend: str, requests: int
) -> None:
    if backend == "numba":
        pytest.importorskip("numba")
    if rss_bytes() is None:
        pytest.skip("this platform does not tell what a process uses")
    path = write_tiny_model(tmp_path / "tiny.gguf", FAMILIES["llama"])
    with load(path, exporters=(), backend=backend, threads=1) as engine:

        def ask(count: int) -> None:
            for number in range(count):
                engine.generate([3 + number % 200, 5], max_tokens=2, temperature=0.0)

        ask(WARM_UP)
        before = rss_bytes()
        scratch = engine.model.runner.scratch_bytes
        ask(requests)
        after = rss_bytes()
        assert before is not None
        assert after is not None
        assert abs(after - before) <= SHARE * before
        assert engine.model.runner.scratch_bytes == scratch


def test_a_long_completion_takes_what_was_reserved_and_no_more(tmp_path: Path) -> None:
    pytest.importorskip("numba")
    path = write_tiny_model(tmp_path / "tiny.gguf", FAMILIES["llama"])
    with load(path, exporters=(), backend="numba", threads=1, context_length=2048) as engine:
        engine.generate([3, 5], max_tokens=8, temperature=0.0, ignore_eos=True)
        scratch = engine.model.runner.scratch_bytes
        before = rss_bytes()
        result = engine.generate([3, 5], max_tokens=1500, temperature=0.0, ignore_eos=True)
        after = rss_bytes()
        assert result.usage.completion_tokens == 1500
        assert engine.model.runner.scratch_bytes == scratch
        if before is not None and after is not None:
            assert after - before <= SHARE * before
