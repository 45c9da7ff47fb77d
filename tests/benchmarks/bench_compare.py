"""smallmind beside llama.cpp: same files, threads, prompts and lengths, in interleaved rounds.

    python tests/benchmarks/bench_compare.py [--models smollm2,llama-1b-q4_0] [--repeat 5]
        [--threads N] [--backend auto] [--cases 1x128,16x128] [--quick] [--json FILE] [--png FILE]

Each engine lives in a process of its own and sleeps while the other is measured. A case ``1x128``
reads a prompt of 128 tokens and decodes greedily behind it; ``16x128`` decodes sixteen sequences
of that length side by side. The limits of the machine are measured in the same rounds.
llama.cpp comes with the package llama-cpp-python (the extra ``bench``); without it smallmind is
measured alone.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from compare_cases import chosen
from compare_chart import write_chart
from compare_report import new_report, write_json
from compare_rounds import Settings, compare_model
from compare_table import print_report
from compared_models import NAMES, model_file
from machine_limits import available_threads
from synthetic_models import DEFAULT_CACHE

QUICK_MODELS = NAMES[:1]


def names(value: str) -> list[str]:
    """Names that commas separate."""
    return [name for name in value.split(",") if name]


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = f"of {', '.join(NAMES)}, or paths of GGUF files"
    parser.add_argument("--models", type=names, help=f"{known}; all when not given")
    parser.add_argument("--cases", type=names, help="all when not given")
    parser.add_argument("--repeat", type=int, help="rounds that count: 5, or 1 when quick")
    parser.add_argument("--threads", type=int, default=available_threads())
    parser.add_argument("--backend", default="auto", help="of smallmind")
    parser.add_argument("--quick", action="store_true", help="one model, short cases, one round")
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="of made-up models")
    parser.add_argument("--json", type=Path, help="write all samples there")
    parser.add_argument("--png", type=Path, help="draw a chart there")
    found = parser.parse_args(arguments)
    found.models = found.models or list(QUICK_MODELS if found.quick else NAMES)
    for name in found.models:
        if name not in NAMES and not name.endswith(".gguf"):
            parser.error(f"no model {name!r}; take some {known}")
    if found.repeat is None:
        found.repeat = 1 if found.quick else 5
    if min(found.repeat, found.threads) < 1:
        parser.error("--repeat and --threads begin at 1")
    return found


def tell(line: str) -> None:
    """Progress, apart from the report."""
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    """Measure, print, and write what was asked for."""
    arguments = parsed()
    settings = Settings(
        threads=arguments.threads,
        repeat=arguments.repeat,
        backend=arguments.backend,
        quick=arguments.quick,
        cases=chosen(arguments.cases, quick=arguments.quick),
    )
    models = []
    for name in arguments.models:
        path = model_file(name, arguments.cache)
        models.append(
            compare_model(path.stem if path == Path(name) else name, path, settings, tell)
        )
        if arguments.json is not None:  # a run that is cut short leaves what it has
            write_json(new_report(settings, models), arguments.json)
    report = new_report(settings, models)
    print_report(report)
    if arguments.png is not None:
        write_chart(report, arguments.png)


if __name__ == "__main__":
    main()
