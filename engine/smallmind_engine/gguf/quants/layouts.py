"""The table of all types: a new one is one entry here and one function."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from smallmind_engine.gguf.quants import codebook_types as code
from smallmind_engine.gguf.quants import k_quants, legacy, plain
from smallmind_engine.gguf.quants import small_floats as small
from smallmind_engine.gguf.quants.quant_types import QuantLayout, QuantType

_F16: Final = ("u2", 1)


def _bytes(count: int) -> tuple[str, int]:
    return ("u1", count)


LAYOUTS: Final[Mapping[QuantType, QuantLayout]] = {
    QuantType.F32: QuantLayout(1, 4, plain.numbers("<f4"), (("u4", 1),)),
    QuantType.F16: QuantLayout(1, 2, plain.numbers("<f2"), (_F16,)),
    QuantType.BF16: QuantLayout(1, 2, plain.bfloat16, (_F16,)),
    QuantType.F64: QuantLayout(1, 8, plain.numbers("<f8"), (("u8", 1),)),
    QuantType.I8: QuantLayout(1, 1, plain.numbers("i1")),
    QuantType.I16: QuantLayout(1, 2, plain.numbers("<i2"), (_F16,)),
    QuantType.I32: QuantLayout(1, 4, plain.numbers("<i4"), (("u4", 1),)),
    QuantType.I64: QuantLayout(1, 8, plain.numbers("<i8"), (("u8", 1),)),
    QuantType.Q4_0: QuantLayout(32, 18, legacy.q4_0, (_F16, _bytes(16))),
    QuantType.Q4_1: QuantLayout(32, 20, legacy.q4_1, (("u2", 2), _bytes(16))),
    QuantType.Q5_0: QuantLayout(32, 22, legacy.q5_0, (_F16, ("u4", 1), _bytes(16))),
    QuantType.Q5_1: QuantLayout(32, 24, legacy.q5_1, (("u2", 2), ("u4", 1), _bytes(16))),
    QuantType.Q8_0: QuantLayout(32, 34, legacy.q8_0, (_F16, _bytes(32))),
    QuantType.Q8_1: QuantLayout(32, 36, legacy.q8_1, (("u2", 2), _bytes(32))),
    QuantType.Q2_K: QuantLayout(256, 84, k_quants.q2_k, (_bytes(80), ("u2", 2))),
    QuantType.Q3_K: QuantLayout(256, 110, k_quants.q3_k, (_bytes(108), _F16)),
    QuantType.Q4_K: QuantLayout(256, 144, k_quants.q4_k, (("u2", 2), _bytes(140))),
    QuantType.Q5_K: QuantLayout(256, 176, k_quants.q5_k, (("u2", 2), _bytes(172))),
    QuantType.Q6_K: QuantLayout(256, 210, k_quants.q6_k, (_bytes(208), _F16)),
    QuantType.Q8_K: QuantLayout(256, 292, k_quants.q8_k, (("u4", 1), _bytes(256), ("u2", 16))),
    QuantType.IQ1_S: QuantLayout(256, 50, code.iq1_s, (_F16, _bytes(32), ("u2", 8))),
    QuantType.IQ1_M: QuantLayout(256, 56, code.iq1_m, (_bytes(48), ("u2", 4))),
    # ggml stores indices and signs as native 32-bit words, but takes the indices out byte by byte.
    QuantType.IQ2_XXS: QuantLayout(256, 66, code.iq2_xxs, None),
    QuantType.IQ2_XS: QuantLayout(256, 74, code.iq2_xs, (("u2", 33), _bytes(8))),
    QuantType.IQ2_S: QuantLayout(256, 82, code.iq2_s, (_F16, _bytes(80))),
    QuantType.IQ3_XXS: QuantLayout(256, 98, code.iq3_xxs, (_F16, _bytes(64), ("u4", 8))),
    QuantType.IQ3_S: QuantLayout(256, 110, code.iq3_s, (_F16, _bytes(108))),
    QuantType.IQ4_NL: QuantLayout(32, 18, small.iq4_nl, (_F16, _bytes(16))),
    QuantType.IQ4_XS: QuantLayout(256, 136, small.iq4_xs, (("u2", 2), _bytes(132))),
    QuantType.TQ1_0: QuantLayout(256, 54, small.tq1_0, (_bytes(52), _F16)),
    QuantType.TQ2_0: QuantLayout(256, 66, small.tq2_0, (_bytes(64), _F16)),
    QuantType.MXFP4: QuantLayout(32, 17, small.mxfp4),
    QuantType.NVFP4: QuantLayout(64, 36, small.nvfp4),
    QuantType.Q1_0: QuantLayout(128, 18, small.q1_0, (_F16, _bytes(16))),
    QuantType.Q2_0: QuantLayout(64, 18, small.q2_0, (_F16, _bytes(16))),
}
