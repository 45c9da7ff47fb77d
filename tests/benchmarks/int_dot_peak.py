"""The most 8-bit multiply-adds a second that the processor can do, in registers.

By VPDPBUSD of AVX-512 VNNI where there is one, else by VPMADDUBSW, VPMADDWD and VPADDD of AVX2.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

CHAINS = 12
"""Independent accumulators: more than the instruction's latency times its units."""

STEPS = 8_000_000
RUNS = 6

VECTOR_BYTES = {"avx512vnni": 64, "avx2": 32}
"""What is multiplied at once, by the feature that it takes, best first."""


def usable_feature() -> str | None:
    """The best feature that the processor has; None for none."""
    from llvmlite import binding

    features = binding.get_host_cpu_features()
    return next((name for name in VECTOR_BYTES if features.get(name, False)), None)


def unavailable_because() -> str | None:
    """Why it cannot be measured here; None when it can."""
    try:
        feature = usable_feature()
    except ImportError:
        return "numba is not installed"
    return None if feature is not None else "the processor has neither AVX-512 VNNI nor AVX2"


def int_dot_operations_per_second(threads: int, steps: int = STEPS) -> float:
    """The best of a few runs; ``unavailable_because`` must have answered None."""
    feature = usable_feature()
    assert feature is not None
    chain = _compiled_chain(feature)
    chain(1, 1)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda seed: chain(1000, seed), range(threads)))  # the threads are awake
        best = float("inf")
        for _ in range(RUNS):
            begin = time.perf_counter()
            list(pool.map(lambda seed: chain(steps, seed), range(threads)))
            best = min(best, time.perf_counter() - begin)
    operations = CHAINS * VECTOR_BYTES[feature] * 2  # a multiplication and an addition each
    return threads * steps * operations / best


def _vpdpbusd(builder: Any, before: Any, values: Any) -> Any:
    from llvmlite import binding, ir
    from numba.core import cgutils

    # LLVM 22 gave the instruction's operands the type that they have: bytes.
    operand = values.type if binding.llvm_version_info[0] >= 22 else before.type
    kind = ir.FunctionType(before.type, [before.type, operand, operand])
    dot = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx512.vpdpbusd.512")
    values = builder.bitcast(values, operand)
    return builder.call(dot, [before, values, values])


def _pmadd(builder: Any, before: Any, values: Any) -> Any:
    from llvmlite import ir
    from numba.core import cgutils

    shorts = ir.VectorType(ir.IntType(16), 16)

    def call(name: str, result: Any, operand: Any, *arguments: Any) -> Any:
        kind = ir.FunctionType(result, [operand, operand])
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)

    # What goes in depends on the sums, or the compiler would multiply once for all.
    mixed = builder.xor(values, builder.bitcast(before, values.type))
    pairs = call("llvm.x86.avx2.pmadd.ub.sw", shorts, values.type, mixed, values)
    ones = ir.Constant(shorts, [1] * 16)
    return builder.add(before, call("llvm.x86.avx2.pmadd.wd", before.type, shorts, pairs, ones))


def _compiled_chain(feature: str) -> Callable[[int, int], int]:
    from llvmlite import ir
    from numba import njit, types
    from numba.extending import intrinsic

    n_bytes = VECTOR_BYTES[feature]
    step = {"avx512vnni": _vpdpbusd, "avx2": _pmadd}[feature]
    count = n_bytes // 4
    lanes = ir.VectorType(ir.IntType(32), count)

    @intrinsic
    def dot_chains(typingctx, steps, seed):
        def emit(context, builder, signature, arguments):
            end, first = arguments
            int64 = end.type
            splat = ir.Constant(lanes, ir.Undefined)
            for lane in range(count):
                splat = builder.insert_element(splat, first, ir.Constant(ir.IntType(32), lane))
            values = builder.bitcast(splat, ir.VectorType(ir.IntType(8), n_bytes))
            entry = builder.block
            loop = builder.append_basic_block("chains")
            done = builder.append_basic_block("done")
            builder.branch(loop)
            builder.position_at_end(loop)
            index = builder.phi(int64)
            index.add_incoming(ir.Constant(int64, 0), entry)
            sums = []
            for number in range(CHAINS):
                before = builder.phi(lanes)
                before.add_incoming(ir.Constant(lanes, [number] * count), entry)
                sums.append(before)
            after = [step(builder, before, values) for before in sums]
            for before, new in zip(sums, after, strict=True):
                before.add_incoming(new, loop)
            following = builder.add(index, ir.Constant(int64, 1))
            index.add_incoming(following, loop)
            builder.cbranch(builder.icmp_signed("<", following, end), loop, done)
            builder.position_at_end(done)
            total = after[0]
            for each in after[1:]:
                total = builder.add(total, each)
            return builder.extract_element(total, ir.Constant(ir.IntType(32), 0))

        return types.int32(types.int64, types.int32), emit

    @njit("int32(int64, int32)", nogil=True)
    def chain(steps, seed):
        return dot_chains(steps, seed)

    return chain
