"""What the scheduler costs a single caller, and what batching gives many.

    python tests/benchmarks/bench_scheduler.py [--model smollm2] [--repeat 9] [--json FILE]

First the decode of one request through ``Engine.generate`` and ``Engine.stream``, beside a plain
loop over ``runner.forward``, interleaved: the medians of the time for a token, and of the ratios
of neighbours. Since the difference drowns in noise, it also times what the scheduler's thread does
for a token besides the model's step: a step of a runner that computes nothing.

Then the total throughput of 1, 4 and 16 requests at once that share a system prompt, on an engine
whose KV budget is filled, relative to one alone in the same round (medians, least and most), with
the shares of their prompts that were found in the cache.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from smallmind import Engine, load
from smallmind_engine.kernels import BestToken, Chunk, LogitsWanted

STREAMS = (1, 4, 16)
KV_TOKENS = 256
"""Of the KV budget for each request: all that it needs beside what the prompts share."""
LIMIT = 0.02
SYSTEM = "You are a helpful assistant who answers briefly and to the point. " * 12
GREEDY = {"temperature": 0.0, "ignore_eos": True}


def plain_loop(engine: Engine, prompt: list[int], tokens: int) -> float:
    """Seconds for a token of a loop that does nothing but steps."""
    runner = engine.model.runner
    cache = runner.new_cache(len(prompt) + tokens)
    (answer,) = runner.forward([Chunk(np.array(prompt), cache, LogitsWanted.BEST)])
    begin = time.perf_counter()
    for _ in range(tokens - 1):
        token = answer.token_id if isinstance(answer, BestToken) else int(answer.argmax())
        (answer,) = runner.forward([Chunk(np.array([token]), cache, LogitsWanted.BEST)])
    seconds = time.perf_counter() - begin
    cache.release()
    return seconds / (tokens - 1)


def generated(engine: Engine, prompt: list[int], tokens: int) -> float:
    """The same of ``Engine.generate``, from the first token to the end."""
    begin = time.perf_counter()
    result = engine.generate(prompt, max_tokens=tokens, **GREEDY)
    seconds = time.perf_counter() - begin
    return (seconds - (result.timings.time_to_first_token_s or 0.0)) / (tokens - 1)


def streamed(engine: Engine, prompt: list[int], tokens: int) -> float:
    """The same of ``Engine.stream``, each token read before the next is computed."""
    with engine.stream(prompt, max_tokens=tokens, **GREEDY) as stream:
        next(stream)
        begin = time.perf_counter()
        for _ in stream:
            pass
        return (time.perf_counter() - begin) / (tokens - 1)


def single_caller(engine: Engine, repeat: int, tokens: int) -> dict[str, float]:
    prompt = engine.tokenize("Once upon a time there was")
    ways: dict[str, Callable[[Engine, list[int], int], float]] = {
        "plain loop": plain_loop,
        "generate": generated,
        "stream": streamed,
    }
    rows: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(-1, repeat):
        for name, way in ways.items():
            seconds = way(engine, prompt, tokens)
            if number >= 0:
                rows[name].append(seconds)
    found = {f"{name} ms/token": statistics.median(row) * 1e3 for name, row in rows.items()}
    for name in ("generate", "stream"):
        ratios = [a / b for a, b in zip(rows[name], rows["plain loop"], strict=True)]
        found[f"{name} / plain loop"] = statistics.median(ratios)
    found["scheduler us/token"] = own_time(engine, prompt, tokens) * 1e6
    found["scheduler share"] = found["scheduler us/token"] / found["plain loop ms/token"] / 1e3
    return found


def own_time(engine: Engine, prompt: list[int], tokens: int) -> float:
    """Seconds of its thread's CPU that the scheduler needs for a token, beside the model's step."""
    scheduler = engine._core.scheduler
    runner = scheduler._runner
    spent: list[float] = []
    left = 0.0

    def nothing(chunks: list[Chunk], limit: object, on_operations: object) -> list[BestToken]:
        nonlocal left
        now = time.thread_time()
        if left:
            spent.append(now - left)
        for chunk in chunks:
            chunk.cache.length += len(chunk.token_ids)
        left = time.thread_time()
        return [BestToken(5, 1.0) for _ in chunks]

    scheduler._runner = SimpleNamespace(
        forward=nothing, batch_invariant=True, prefill_chunk=runner.prefill_chunk
    )
    try:
        # Tokens of nothing must not be found by the next prompt, so this one is unlike others.
        generated(engine, [7, *prompt], tokens)
        return statistics.median(spent)
    finally:
        scheduler._runner = runner


class Crowd:
    """Requests at once to one engine that has been at work for a while.

    Its KV budget is filled by requests before, as that of a service is: what is measured finds
    the beginning that all prompts share, and takes the memory of older requests.

    Args:
        engine: completes the prompts.
        pool: as many threads as there may be requests at once.
        tokens: that each request generates.
    """

    def __init__(self, engine: Engine, pool: ThreadPoolExecutor, tokens: int) -> None:
        self._engine = engine
        self._pool = pool
        self._tokens = tokens
        self._asked = 0

    def fill(self) -> None:
        """Have the KV budget taken once."""
        while not self._engine.stats().evicted_blocks:
            self.ask(STREAMS[-1], streaming=False)

    def ask(self, streams: int, *, streaming: bool) -> dict[str, float]:
        """Tokens a second of so many requests at once, and what of their prompts was cached."""
        engine, tokens = self._engine, self._tokens
        numbers = range(self._asked, self._asked + streams)
        self._asked += streams
        prompts = [f"{SYSTEM}Question number {number}:" for number in numbers]

        def answer(prompt: str) -> int:
            if not streaming:
                return engine.generate(prompt, max_tokens=tokens, **GREEDY).usage.completion_tokens
            with engine.stream(prompt, max_tokens=tokens, **GREEDY) as stream:
                return sum(chunk.token_id is not None for chunk in stream)

        before = engine.stats()
        begin = time.perf_counter()
        count = sum(self._pool.map(answer, prompts))
        seconds = time.perf_counter() - begin
        after = engine.stats()
        queried = after.prefix_queried_tokens - before.prefix_queried_tokens
        hit = after.prefix_hit_tokens - before.prefix_hit_tokens
        steps = after.steps - before.steps
        decoded = after.decode_tokens - before.decode_tokens
        return {
            "tok/s": count / seconds,
            "prompt tokens": queried,
            "of them cached": hit / queried,
            "sequences a step": decoded / steps,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with load(arguments.model, exporters=()) as engine:
        print(f"{arguments.model}, backend {engine.backend}, {os.cpu_count()} cores")
        single = single_caller(engine, arguments.repeat, arguments.tokens)
    for key, value in single.items():
        print(f"  {key:26} {value:9.3f}")
    verdict = "within" if single["scheduler share"] <= LIMIT else "ABOVE"
    print(f"  the scheduler's own share of a token is {verdict} {LIMIT:.0%}")
    rows: dict[str, dict[str, list[float]]] = {}
    most = STREAMS[-1]
    with (
        load(
            arguments.model,
            exporters=(),
            max_batch_size=most,
            max_concurrent_requests=most,
            max_kv_tokens=most * KV_TOKENS,
        ) as engine,
        ThreadPoolExecutor(most) as pool,
    ):
        crowd = Crowd(engine, pool, arguments.tokens)
        crowd.fill()
        for _ in range(arguments.rounds):
            for streaming in (False, True):
                for streams in STREAMS:
                    what = f"{streams} {'stream' if streaming else 'generate'}"
                    for key, value in crowd.ask(streams, streaming=streaming).items():
                        rows.setdefault(what, {}).setdefault(key, []).append(value)
    table = {
        what: {key: statistics.median(values) for key, values in row.items()}
        for what, row in rows.items()
    }
    for what, row in table.items():
        kind = what.split()[1]
        alone = rows[f"1 {kind}"]["tok/s"]
        ratios = [many / one for many, one in zip(rows[what]["tok/s"], alone, strict=True)]
        row["relative to one"] = statistics.median(ratios)
        numbers = "  ".join(f"{key} {value:8.2f}" for key, value in row.items())
        print(f"  {what:12} {numbers} [{min(ratios):.2f}..{max(ratios):.2f}]")
    if arguments.json:
        arguments.json.write_text(json.dumps({"single": single, "batched": table}, indent=2))


if __name__ == "__main__":
    main()
