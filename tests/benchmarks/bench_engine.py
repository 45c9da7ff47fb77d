"""Prefill and decode speed of the real models, beside limits measured in the same run.

    python tests/benchmarks/bench_engine.py [--model smollm2] [--repeat 5] [--json FILE]

Rows are medians of interleaved runs. The prefill's share of sgemm counts the floating-point
operations of its products with weights, once over the time in those products alone and once over
its whole wall time, against a bare matrix product of NumPy in the same run.
llama.cpp is measured beside it, on the same file and with the same number of threads, when
llama-cpp-python can be imported.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from smallmind import load
from smallmind._engine import Engine
from smallmind_engine.kernels import Chunk, LogitsWanted

PREFILL_TOKENS = 400
DECODE_STEPS = 48
WARM_UP = 4
SGEMM = (512, 1536, 1536)


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def sgemm_flops_per_second() -> float:
    m, k, n = SGEMM
    a, b = np.ones((m, k), np.float32), np.ones((k, n), np.float32)
    out = np.empty((m, n), np.float32)
    return 2 * m * k * n * 8 / seconds(lambda: [np.matmul(a, b, out=out) for _ in range(8)])


def bandwidth() -> float:
    """Bytes a second of a matrix-vector product too large for any cache."""
    matrix, vector = np.ones((65536, 1024), np.float32), np.ones(1024, np.float32)
    out = np.empty(65536, np.float32)
    return matrix.nbytes / seconds(lambda: np.dot(matrix, vector, out=out))


@contextmanager
def timed_products(spent: list[float]) -> Iterator[None]:
    """Collect the seconds in NumPy's products of activations with weight matrices."""
    matmul = np.matmul

    def timed(a: np.ndarray, b: np.ndarray, **kwargs: np.ndarray) -> np.ndarray:
        if b.ndim != 2:
            return matmul(a, b, **kwargs)
        begin = time.perf_counter()
        answer = matmul(a, b, **kwargs)
        spent.append(time.perf_counter() - begin)
        return answer

    np.matmul = timed
    try:
        yield
    finally:
        np.matmul = matmul


def ours(engine: Engine, prompt: np.ndarray) -> dict[str, float]:
    runner = engine.model.runner
    cache = runner.new_cache(len(prompt) + DECODE_STEPS)

    def prefill() -> None:
        for begin in range(0, len(prompt), runner.prefill_chunk):
            part = prompt[begin : begin + runner.prefill_chunk]
            runner.forward([Chunk(part, cache, LogitsWanted.LAST)])

    def decode() -> None:
        for token in prompt[:DECODE_STEPS]:
            runner.forward([Chunk(np.array([token]), cache, LogitsWanted.LAST)])

    spent: list[float] = []
    with timed_products(spent):
        prefill_s = seconds(prefill)
    return {
        "prefill tok/s": len(prompt) / prefill_s,
        "products s": sum(spent),
        "decode tok/s": DECODE_STEPS / seconds(decode),
    }


def llama_cpp_runner(path: Path, threads: int) -> Callable[[np.ndarray], dict[str, float]] | None:
    try:
        from llama_cpp import Llama
    except ImportError:
        return None
    model = Llama(
        str(path), n_ctx=1024, n_batch=512, n_threads=threads, n_threads_batch=threads,
        verbose=False,
    )  # fmt: skip

    def run(prompt: np.ndarray) -> dict[str, float]:
        model.reset()
        prefill = seconds(lambda: model.eval(prompt.tolist()))
        decode = seconds(lambda: [model.eval([int(t)]) for t in prompt[:DECODE_STEPS]])
        return {
            "llama.cpp prefill tok/s": len(prompt) / prefill,
            "llama.cpp decode tok/s": DECODE_STEPS / decode,
        }

    return run


def measure(name: str, repeat: int) -> dict[str, list[float]]:
    rows: dict[str, list[float]] = {}
    begin = time.perf_counter()
    with load(name, exporters=()) as engine:
        rows["load s"] = [time.perf_counter() - begin]
        spec = engine.model.spec
        prompt = np.random.default_rng(0).integers(0, spec.vocab_size, PREFILL_TOKENS)
        matrices = engine.model.runner.weight_bytes / 4 - spec.vocab_size * spec.width
        flops = 2 * matrices * PREFILL_TOKENS
        output_flops = 2 * spec.vocab_size * spec.width  # of the last row only
        other = llama_cpp_runner(engine.model.path, os.cpu_count() or 1)
        for number in range(-WARM_UP // 2, repeat):
            found = {
                "sgemm GFLOP/s": sgemm_flops_per_second() / 1e9,
                "read GB/s": bandwidth() / 1e9,
                **ours(engine, prompt),
                **(other(prompt) if other is not None else {}),
            }
            prefill_flops = flops * found["prefill tok/s"] / PREFILL_TOKENS
            products_flops = (flops + output_flops) / found.pop("products s")
            found["prefill GFLOP/s"] = prefill_flops / 1e9
            found["products, share of sgemm"] = products_flops / 1e9 / found["sgemm GFLOP/s"]
            found["prefill, share of sgemm"] = prefill_flops / 1e9 / found["sgemm GFLOP/s"]
            read = engine.model.runner.weight_bytes * found["decode tok/s"] / 1e9
            found["decode share of bandwidth"] = read / found["read GB/s"]
            if other is not None:
                for what in ("prefill", "decode"):
                    ratio = found[f"{what} tok/s"] / found[f"llama.cpp {what} tok/s"]
                    found[f"{what} ÷ llama.cpp"] = ratio
            if number >= 0:
                for key, value in found.items():
                    rows.setdefault(key, []).append(value)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", action="append", default=None)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    results = {}
    for name in arguments.model or ["smollm2", "gemma3-270m"]:
        results[name] = measure(name, arguments.repeat)
        print(f"{name}  ({os.cpu_count()} cores, medians of {arguments.repeat})")
        for key, values in results[name].items():
            low, high = min(values), max(values)
            print(f"  {key:28} {statistics.median(values):9.3f}   ({low:.3f} to {high:.3f})")
        if "llama.cpp decode tok/s" not in results[name]:
            print("  llama.cpp                    not measured: llama-cpp-python is not installed")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
