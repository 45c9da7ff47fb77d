"""What a sampled token costs, beside the bare NumPy call that it would take at least.

Run: ``python tests/benchmarks/bench_sampling.py [--json]``. The limit it guards: default options
on 262,144 tokens in at most 1 ms; the exit code is 1 when that fails.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from smallmind_engine.sampling import Sampler, SamplingOptions, StopMatcher, token_logprob

VOCAB_SIZES = (49_152, 262_144)  # SmolLM2 and Gemma 3
LIMIT_MS = 1.0
HISTORY = range(64)

OPTIONS = {
    "greedy": {"temperature": 0.0},
    "default": {},
    "default + penalties": {"repetition_penalty": 1.1, "frequency_penalty": 0.2},
    "top-p 0.9 alone": {"top_k": 0, "top_p": 0.9},
    "min-p 0.05 alone": {"top_k": 0, "top_p": 1.0, "min_p": 0.05},
    "typical-p 0.9 alone": {"top_k": 0, "top_p": 1.0, "typical_p": 0.9},
    "temperature alone": {"top_k": 0, "top_p": 1.0},
}


@dataclass(frozen=True, slots=True)
class Measurement:
    """Milliseconds for one call."""

    what: str
    vocab_size: int
    median_ms: float
    best_ms: float


def logits_like_a_models(vocab_size: int) -> npt.NDArray[np.float32]:
    """A few likely tokens and a long tail, in no order of ids (Zipf's law with noise)."""
    rng = np.random.default_rng(0)
    ranks = rng.permutation(vocab_size) + 1.0
    return (20.0 - 1.6 * np.log(ranks) + rng.standard_normal(vocab_size)).astype(np.float32)


def measured(what: str, vocab_size: int, call: Callable[[], object], repeat: int) -> Measurement:
    """Time ``call`` so many times, after a warm-up."""
    times_ms = []
    for _ in range(repeat + 3):
        started = time.perf_counter_ns()
        call()
        times_ms.append((time.perf_counter_ns() - started) / 1e6)
    timed = times_ms[3:]
    return Measurement(what, vocab_size, statistics.median(timed), min(timed))


def measure(repeat: int = 200) -> list[Measurement]:
    """All figures, for every vocabulary size."""
    found = []
    for vocab_size in VOCAB_SIZES:
        logits = logits_like_a_models(vocab_size)
        for what, options in OPTIONS.items():
            sampler = Sampler(SamplingOptions(seed=1, **options), vocab_size, history=HISTORY)
            found.append(
                measured(what, vocab_size, lambda s=sampler, row=logits: s.sample(row), repeat)
            )
        calls: dict[str, Callable[[], object]] = {
            "log-probabilities, 5 best": lambda row=logits: token_logprob(row, 7, 5),
            "bare np.argmax": lambda row=logits: row.argmax(),
            "bare np.argpartition, 40": lambda row=logits: np.argpartition(row, row.size - 40),
        }
        found += [measured(what, vocab_size, call, repeat) for what, call in calls.items()]
    stops = StopMatcher(["<|im_end|>", "\nUser:", "</s>", "###"])
    found.append(measured("stop strings: 4, one token", 0, lambda: stops.push(" token"), repeat))
    return found


def main(arguments: list[str] | None = None) -> int:
    """Print the table; 1 when the limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--repeat", type=int, default=200, help="calls for each figure")
    chosen = parser.parse_args(arguments)
    found = measure(chosen.repeat)
    if chosen.json:
        print(json.dumps([asdict(one) for one in found], indent=2))
    else:
        print(f"{'sampling, one token':<28} {'vocabulary':>10} {'median ms':>10} {'best ms':>10}")
        for one in found:
            print(
                f"{one.what:<28} {one.vocab_size:>10} {one.median_ms:>10.3f} {one.best_ms:>10.3f}"
            )
    return int(any(one.what == "default" and one.median_ms > LIMIT_MS for one in found))


if __name__ == "__main__":
    sys.exit(main())
