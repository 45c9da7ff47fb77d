"""Norms, activations, rotation and attention of the NumPy backend."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smallmind_engine.kernels import Activation, RopeTable
from smallmind_engine.kernels.numpy_backend.attention import QUERY_TILE, attend
from smallmind_engine.kernels.numpy_backend.ops import (
    SCRATCH_ROWS,
    activate,
    layer_norm,
    rms_norm,
    rotate,
    softcap,
)
from smallmind_engine.kernels.numpy_backend.workspace import Workspace, WorkspacePool
from smallmind_engine.kernels.rotation import RotationTable, halves_order


def rows(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_rms_norm_on_paper() -> None:
    """(3, 4) has the root mean square 5/sqrt(2)."""
    x = np.array([[3.0, 4.0]], np.float32)
    out = rms_norm(x, np.array([1.0, 2.0], np.float32), 0.0, np.empty_like(x))
    np.testing.assert_allclose(out, [[3 / 3.5355339, 8 / 3.5355339]], rtol=1e-6)


def test_rms_norm_of_zeros_is_zero() -> None:
    x = np.zeros((2, 4), np.float32)
    assert rms_norm(x, np.ones(4, np.float32), 1e-5, x).tolist() == [[0.0] * 4] * 2


def test_layer_norm_centres_and_scales() -> None:
    x = rows(0, 3, 16)
    out = layer_norm(x, np.ones(16, np.float32), None, 0.0, np.empty_like(x))
    np.testing.assert_allclose(out.mean(-1), 0.0, atol=1e-6)
    np.testing.assert_allclose(out.std(-1), 1.0, rtol=1e-5)


@pytest.mark.parametrize("n_rows", [1, 63, 64, 65, 200])
def test_activations_follow_their_formulas_in_slices(n_rows: int) -> None:
    x = rows(1, n_rows, 8) * 3
    scratch = np.empty((SCRATCH_ROWS, 8), np.float32)
    silu = activate(Activation.SILU, x.copy(), scratch)
    np.testing.assert_allclose(silu, x / (1 + np.exp(-x)), rtol=1e-5, atol=1e-6)
    gelu = activate(Activation.GELU_TANH, x.copy(), scratch)
    exact = [[0.5 * v * (1 + math.erf(v / math.sqrt(2))) for v in row] for row in x.tolist()]
    np.testing.assert_allclose(gelu, exact, atol=2e-3)
    erf = activate(Activation.GELU_ERF, x.copy(), scratch)
    np.testing.assert_allclose(erf, exact, atol=1e-6)


def test_gelu_ends_at_zero_and_at_its_input() -> None:
    x = np.array([[-1e4, -20.0, -0.0, 0.0, 20.0, 1e4]], np.float32)
    scratch = np.empty((SCRATCH_ROWS, 6), np.float32)
    with np.errstate(all="raise", under="ignore"):
        activate(Activation.GELU_ERF, x, scratch)
    np.testing.assert_allclose(x, [[0.0, 0.0, 0.0, 0.0, 20.0, 1e4]], atol=1e-6)


def test_softcap_keeps_values_inside_the_cap() -> None:
    x = np.array([-1e6, -1.0, 0.0, 1.0, 1e6], np.float32)
    capped = softcap(x, 30.0)
    assert np.abs(capped).max() <= 30.0
    assert capped[2] == 0.0


@given(st.integers(0, 2**31), st.integers(0, 500))
def test_rotation_keeps_the_length_of_each_head(seed: int, position: int) -> None:
    table = RotationTable(RopeTable((1.0, 0.1, 0.01)))
    x = rows(seed, 1, 2, 8)
    before = np.linalg.norm(x, axis=-1)
    cos, sin = table.at(np.array([position]))
    np.testing.assert_allclose(np.linalg.norm(rotate(x, cos, sin), axis=-1), before, rtol=1e-5)


def test_rotated_products_depend_on_the_distance_only() -> None:
    table = RotationTable(RopeTable((1.0, 0.25)))
    q, k = rows(2, 1, 1, 4), rows(3, 1, 1, 4)

    def product(at_q: int, at_k: int) -> float:
        a = rotate(q.copy(), *table.at(np.array([at_q])))
        b = rotate(k.copy(), *table.at(np.array([at_k])))
        return float((a * b).sum())

    assert product(3, 1) == pytest.approx(product(103, 101), abs=1e-5)


def test_halves_order_is_a_permutation() -> None:
    assert sorted(halves_order(10, 3).tolist()) == list(range(10))


def naive_attention(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, start: int, window: int | None
) -> np.ndarray:
    out = np.empty((*q.shape[:3], v.shape[-1]))
    for t, head, group in np.ndindex(*q.shape[:3]):
        last = start + t
        first = 0 if window is None else max(0, last - window + 1)
        scores = k[head, first : last + 1].astype(float) @ q[t, head, group]
        weights = np.exp(scores - scores.max())
        out[t, head, group] = weights / weights.sum() @ v[head, first : last + 1]
    return out


@pytest.mark.parametrize("window", [None, 1, 5, 150])
@pytest.mark.parametrize(("start", "n_new"), [(0, 1), (9, 1), (0, 7), (5, 3), (40, QUERY_TILE + 9)])
def test_attention_is_the_naive_one(start: int, n_new: int, window: int | None) -> None:
    q, k, v = rows(4, n_new, 2, 3, 8), rows(5, 2, start + n_new, 8), rows(6, 2, start + n_new, 6)
    out = np.empty((n_new, 2, 3, 6), np.float32)
    attend(q, k, v, start, window, None, out, Workspace())
    np.testing.assert_allclose(out, naive_attention(q, k, v, start, window), atol=1e-5)


def test_a_workspace_keeps_its_memory_between_steps() -> None:
    workspace = Workspace()
    first = workspace.floats("x", (4, 8))
    smaller = workspace.floats("x", (2, 8))
    assert np.shares_memory(first, smaller)
    assert workspace.nbytes == 4 * 8 * 4


def test_a_pool_lends_a_workspace_to_one_user_at_a_time() -> None:
    pool = WorkspacePool()
    with pool.lend() as first, pool.lend() as second:
        assert first is not second
        assert pool.lent == 2
        assert not pool.wait_idle(0.0)
    with pool.lend() as again:
        assert again in (first, second)
    assert pool.wait_idle(0.0)
