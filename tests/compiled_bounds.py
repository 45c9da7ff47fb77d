"""Calling the compiled functions that bound outputs, with terms that NumPy makes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from compiled_kernels import BLOCK, LANES, Call, Floats, Quantized, address, matrix_record, zeros
from packed_weights import PackedMatrix
from smallmind_engine.kernels.numba_backend.records import (
    OUTLIERS,
    SPARE_TOKENS,
    TERMS,
    TOKEN_TILE,
    InputScale,
    Job,
    Matrix,
    Outlier,
    Term,
)


def upper_bounds(
    call: Call,
    matrix: PackedMatrix,
    inputs: Quantized,
    count: int,
    outliers: Sequence[int] = (),
) -> Floats:
    """Of the first ``count`` tokens' outputs, by group of 16 rows: shape (count, groups).

    ``outliers`` are inputs to be taken in full, none or ``OUTLIERS`` of them.
    """
    record = matrix_record(matrix)
    job = np.zeros(len(Job), np.int64)
    codes = inputs.codes.astype(np.float64)
    factors, sums = (inputs.scales[..., i] for i in (InputScale.FACTOR, InputScale.SUM))
    squares = factors.astype(np.float64) ** 2 * (codes**2).sum(-1)
    records = np.zeros((OUTLIERS, len(Outlier)), np.int64)
    values: list[Floats] = []
    for place, outlier in enumerate(outliers):
        block, lane = divmod(outlier, BLOCK)
        # Of a block's 32 inputs a row has eight in each of four vectors: two times four bytes.
        records[place] = (
            outlier,
            256 * block + 64 * (lane // 8),
            8 * (lane % 4) + 4 * (lane // 4 % 2),
        )
        value = factors[block] * inputs.codes[block, :, lane]
        squares[block] -= value.astype(np.float64) ** 2
        values.append(value)
    rows = zeros((inputs.codes.shape[1], len(codes) * TERMS + OUTLIERS), np.float32)
    terms = np.empty((len(rows), len(codes), TERMS), np.float32)
    terms[..., Term.SCALE] = 16.0 * factors.T
    terms[..., Term.OFFSET] = (7.5 - 128.0) * sums.T
    terms[..., Term.VARIANCE] = (16.0**2 - 1.0) / 12.0 * np.maximum(squares, 0.0).T
    rows[:, :-OUTLIERS] = terms.reshape(len(rows), -1)
    if values:
        rows[:, -OUTLIERS:] = np.transpose(values)
    out = zeros((count + SPARE_TOKENS, int(record[Matrix.GROUPS])), np.float32)
    out[...] = np.nan
    scratch = zeros((TOKEN_TILE + SPARE_TOKENS, LANES), np.float32)
    job[Job.GROUP_BEGIN], job[Job.GROUP_END] = 0, record[Matrix.GROUPS]
    job[Job.OUT], job[Job.OUT_STRIDE] = address(out), out.strides[0]
    job[Job.TERMS], job[Job.TERM_STRIDE] = address(rows), rows.strides[0]
    job[Job.OUTLIERS], job[Job.OUTLIER_COUNT] = address(records), len(outliers)
    job[Job.SCRATCH], job[Job.STRIDE] = address(scratch), inputs.codes.shape[1]
    job[Job.CODES], job[Job.TOKEN_END] = address(inputs.codes), count
    call(address(record), address(job))
    return out[:count]
