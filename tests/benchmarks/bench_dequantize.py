"""How fast each type decodes, beside the `gguf` package's own decoder.

python tests/benchmarks/bench_dequantize.py [--repeat 5]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
from gguf import GGMLQuantizationType
from gguf.quants import dequantize as oracle

from smallmind_engine.gguf import LAYOUTS, dequantize

N_ELEMENTS = 1 << 22


def median_s(work: Callable[[], object], repeat: int) -> float:
    times = []
    for _ in range(repeat):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=5)
    repeat = parser.parse_args().repeat
    rng = np.random.default_rng(0)
    out = np.empty(N_ELEMENTS, np.float32)
    print(f"{'type':8} {'M numbers/s':>12} {'gguf package':>13} {'ratio':>6}")
    for qtype, layout in LAYOUTS.items():
        n_blocks = N_ELEMENTS // layout.block_elements
        blocks = rng.integers(0, 128, (n_blocks, layout.block_bytes), dtype=np.uint8)
        ours = median_s(partial(dequantize, blocks.reshape(-1), qtype, out.shape, out), repeat)
        try:
            with np.errstate(all="ignore"):
                theirs = median_s(partial(oracle, blocks, GGMLQuantizationType(qtype)), 1)
            other = f"{N_ELEMENTS / theirs / 1e6:13.0f} {theirs / ours:6.1f}"
        except NotImplementedError:
            other = f"{'-':>13}"
        print(f"{qtype.name:8} {N_ELEMENTS / ours / 1e6:12.0f} {other}")


if __name__ == "__main__":
    main()
