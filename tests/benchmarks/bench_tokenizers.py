"""How fast the tokenizers are: MB/s, worst cases, time to build, time to stop.

Run: python tests/benchmarks/bench_tokenizers.py smollm2.gguf gemma3.gguf
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from smallmind_engine.control import CancellationToken, WorkLimit
from smallmind_engine.telemetry.errors import OperationCancelledError
from smallmind_engine.tokenizers import Tokenizer, TokenizerFactory
from tokenizer_models import generated_texts, tokenizer_metadata

LONG = 200_000
ENGLISH = (
    "It was the best of times, it was the worst of times, it was the age of wisdom, it was the "
    "age of foolishness, it was the epoch of belief, it was the epoch of incredulity, it was the "
    "season of Light, it was the season of Darkness, it was the spring of hope, it was the winter "
    "of despair, we had everything before us, we had nothing before us, we were all going direct "
    "to Heaven, we were all going direct the other way. There were a king with a large jaw and a "
    "queen with a plain face, on the throne of England; there were a king with a large jaw and a "
    "queen with a fair face, on the throne of France. In both countries it was clearer than "
    "crystal to the lords of the State preserves of loaves and fishes, that things in general "
    "were settled for ever. It was the year of Our Lord 1775.\n\n"
)
WORST = {
    "200,000 identical letters": "a" * LONG,
    "200,000 spaces": " " * LONG,
    "200,000 line breaks": "\n" * LONG,
    "200,000 digits": "7" * LONG,
    "200,000 letters without a space": "".join(
        chr(97 + (place * place * 7 + place // 3) % 26) for place in range(LONG)
    ),
    "200,000 Chinese characters": "日本語的文字" * (LONG // 6),
}


def seconds(work: object, repeats: int = 3) -> float:
    """Best of some runs."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()  # type: ignore[operator]
        times.append(time.perf_counter() - start)
    return min(times)


def stop_latency_s(tokenizer: Tokenizer, text: str) -> float:
    """From the call of ``cancel`` to the error, in the middle of an encode."""
    token = CancellationToken()
    cancelled_at = 0.0

    def cancel() -> None:
        nonlocal cancelled_at
        cancelled_at = time.perf_counter()
        token.cancel()

    timer = threading.Timer(0.1, cancel)
    timer.start()
    try:
        tokenizer.encode(text, limit=WorkLimit(token))
    except OperationCancelledError:
        return time.perf_counter() - cancelled_at
    timer.cancel()
    return float("nan")


def report(path: Path) -> None:
    """Print the figures of one model."""
    metadata = tokenizer_metadata(path)
    build_s = seconds(lambda: TokenizerFactory.create(metadata))
    tokenizer = TokenizerFactory.create(metadata)
    print(
        f"{path.name}: {tokenizer.kind}, {tokenizer.vocab_size:,} tokens, built in {build_s:.3f} s"
    )
    cold = ENGLISH * (1_000_000 // len(ENGLISH))
    mixed = "\n".join(generated_texts(0, 5_000))
    for name, text in {"English": cold, "generated mix": mixed}.items():
        size_mb = len(text.encode()) / 1e6
        first_s = seconds(lambda text=text: TokenizerFactory.create(metadata).encode(text), 1)
        warm_s = seconds(lambda text=text: tokenizer.encode(text))
        ids = tokenizer.encode(text)
        decode_s = seconds(lambda ids=ids: tokenizer.decode(ids))
        rates = f"encode {size_mb / warm_s:6.2f} MB/s, decode {size_mb / decode_s:6.2f} MB/s"
        print(f"  {name:34} {rates}, build and first encode {first_s:.2f} s")
    for name, text in WORST.items():
        print(f"  {name:34} {seconds(lambda text=text: tokenizer.encode(text), 1):6.2f} s")
    latency_ms = 1e3 * max(stop_latency_s(tokenizer, "a" * 2 * LONG) for _ in range(3))
    print(f"  stops inside one long word within {latency_ms:.1f} ms")


def main() -> None:
    """Report on every model named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", type=Path)
    for path in parser.parse_args().models:
        report(path)


if __name__ == "__main__":
    main()
