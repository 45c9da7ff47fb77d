"""The most 8-bit multiply-adds a second that the processor can do: AVX-512 VNNI in registers."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

CHAINS = 12
"""Independent accumulators: more than the instruction's latency times its units."""

BYTES_PER_VECTOR = 64
OPERATIONS_PER_STEP = CHAINS * BYTES_PER_VECTOR * 2  # a multiplication and an addition each
STEPS = 8_000_000
RUNS = 6


def unavailable_because() -> str | None:
    """Why it cannot be measured here; None when it can."""
    try:
        from llvmlite import binding
    except ImportError:
        return "numba is not installed"
    if not binding.get_host_cpu_features().get("avx512vnni", False):
        return "the processor has no AVX-512 VNNI"
    return None


def int_dot_operations_per_second(threads: int, steps: int = STEPS) -> float:
    """The best of a few runs; ``unavailable_because`` must have answered None."""
    chain = _compiled_chain()
    chain(1, 1)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda seed: chain(1000, seed), range(threads)))  # the threads are awake
        best = float("inf")
        for _ in range(RUNS):
            begin = time.perf_counter()
            list(pool.map(lambda seed: chain(steps, seed), range(threads)))
            best = min(best, time.perf_counter() - begin)
    return threads * steps * OPERATIONS_PER_STEP / best


def _compiled_chain() -> Callable[[int, int], int]:
    from llvmlite import binding, ir
    from numba import njit, types
    from numba.core import cgutils
    from numba.extending import intrinsic

    lanes = ir.VectorType(ir.IntType(32), 16)
    # LLVM 22 gave the instruction's operands the type that they have: bytes.
    by_bytes = binding.llvm_version_info[0] >= 22
    operand = ir.VectorType(ir.IntType(8), 64) if by_bytes else lanes

    @intrinsic
    def vpdpbusd_chains(typingctx, steps, seed):
        def emit(context, builder, signature, arguments):
            count, first = arguments
            int64 = count.type
            dot = cgutils.get_or_insert_function(
                builder.module,
                ir.FunctionType(lanes, [lanes, operand, operand]),
                "llvm.x86.avx512.vpdpbusd.512",
            )
            splat = ir.Constant(lanes, ir.Undefined)
            for lane in range(16):
                splat = builder.insert_element(splat, first, ir.Constant(ir.IntType(32), lane))
            values = builder.bitcast(splat, operand) if by_bytes else splat
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
                before.add_incoming(ir.Constant(lanes, [number] * 16), entry)
                sums.append(before)
            after = [builder.call(dot, [before, values, values]) for before in sums]
            for before, new in zip(sums, after, strict=True):
                before.add_incoming(new, loop)
            following = builder.add(index, ir.Constant(int64, 1))
            index.add_incoming(following, loop)
            builder.cbranch(builder.icmp_signed("<", following, count), loop, done)
            builder.position_at_end(done)
            total = after[0]
            for each in after[1:]:
                total = builder.add(total, each)
            return builder.extract_element(total, ir.Constant(ir.IntType(32), 0))

        return types.int32(types.int64, types.int32), emit

    @njit("int32(int64, int32)", nogil=True)
    def chain(steps, seed):
        return vpdpbusd_chains(steps, seed)

    return chain
