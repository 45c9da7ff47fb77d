"""The report as text: tables of rich when it is installed, else aligned columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from compare_cases import ENGINES, LLAMA_CPP, SMALLMIND, Case
from compare_summary import (
    CostRow,
    SpeedRow,
    Spread,
    cost_rows,
    disturbance,
    leading_agreement,
    limit,
    missing_because,
    scaling,
    single_beside,
    speed_rows,
)

NONE = "-"
UNBOUNDED = 1000
LIMITS = (
    ("read_bytes_per_s", "memory reads", "GB/s"),
    ("sgemm_flops_per_s", "sgemm", "GFLOP/s"),
    ("int_dot_operations_per_s", "8-bit products", "GOP/s"),
)


@dataclass(frozen=True, slots=True)
class Table:
    """A table before it has a form."""

    title: str
    heads: tuple[str, ...]
    rows: list[tuple[str, ...]]


def print_report(report: dict) -> None:
    """Write all tables to the terminal."""
    try:
        from rich.console import Console
        from rich.measure import Measurement
        from rich.table import Table as RichTable
    except ImportError:
        print(as_text(report))
        return
    console = Console()
    for block in blocks(report):
        if isinstance(block, str):
            console.print(block, markup=False, highlight=False, soft_wrap=True)
            continue
        shown = RichTable(title=block.title, title_justify="left")
        for index, head in enumerate(block.heads):
            shown.add_column(head, justify="right" if index else "left", no_wrap=True)
        for row in block.rows:
            shown.add_row(*row)
        # Rather lines that wrap than figures that are cut off.
        unbounded = console.options.update(max_width=UNBOUNDED)
        needed = Measurement.get(console, unbounded, shown).maximum
        console.width = max(console.width, needed)
        console.print(shown)


def as_text(report: dict) -> str:
    """All tables as plain text."""
    return "\n".join(
        block if isinstance(block, str) else _aligned(block) for block in blocks(report)
    )


def blocks(report: dict) -> Iterator[Table | str]:
    """Lines and tables, from the top of the report to its end."""
    machine, settings = report["machine"], report["settings"]
    yield (
        f"{report['date']}  {machine['cpu']}, {settings['threads']} of {machine['cores']} cores;"
        f" medians of {settings['repeat']} interleaved rounds, least to most in brackets"
    )
    cases = [Case(**case) for case in settings["cases"].values()]
    for model in report["models"]:
        rows = speed_rows(model, cases)
        prefill = [row for row in rows if row.group == "prefill"]
        yield f"\n{model['name']}, {model['file_bytes'] / 1e6:.0f} MB"
        yield _speed_table("prefill, tokens/s", "GFLOP/s", "of sgemm", prefill)
        yield _speed_table(
            "decode, tokens/s",
            "GB/s",
            "of bandwidth",
            [row for row in rows if row.group != "prefill"],
        )
        yield _cost_table(model)
        for notes in (_limit_notes, _scaling_notes, _agreement_notes, _engine_notes):
            yield from notes(model, cases)


def _speed_table(title: str, unit: str, of: str, rows: list[SpeedRow]) -> Table:
    return Table(
        title,
        ("", SMALLMIND, LLAMA_CPP, "ratio", unit, of, f"{LLAMA_CPP} {of}"),
        [
            (
                row.label,
                _speed(row.ours),
                _speed(row.theirs),
                _ratio(row.ratio),
                NONE if row.our_rate is None else f"{row.our_rate.median / 1e9:.1f}",
                _share(row.our_share),
                _share(row.their_share),
            )
            for row in rows
        ],
    )


def _cost_table(model: dict) -> Table:
    return Table(
        "load and memory: less is better",
        ("", SMALLMIND, LLAMA_CPP, "ratio", f"{SMALLMIND} ÷ file", f"{LLAMA_CPP} ÷ file"),
        [_cost_cells(row, model["file_bytes"]) for row in cost_rows(model)],
    )


def _cost_cells(row: CostRow, file_bytes: int) -> tuple[str, ...]:
    def value(each: float | None) -> str:
        if each is None:
            return NONE
        return f"{each:.3f} s" if row.unit == "s" else f"{each / 1e6:.0f} MB"

    def by_file(each: float | None) -> str:
        return NONE if each is None or row.unit == "s" else f"{each / file_bytes:.2f}"

    both = row.ours is not None and row.theirs
    ratio = f"{row.ours / row.theirs:.2f}" if both else NONE
    return (
        row.label,
        value(row.ours),
        value(row.theirs),
        ratio,
        by_file(row.ours),
        by_file(row.theirs),
    )


def _limit_notes(model: dict, _: list[Case]) -> Iterator[str]:
    for name, what, unit in LIMITS:
        found = limit(model, name)
        if found is not None:
            yield f"limit: {what} {_ranged(found, 1e9)} {unit}"
        else:
            yield f"limit: {what} not measured: {model['limits'][0]['int_dot_missing']}"


def _scaling_notes(model: dict, cases: list[Case]) -> Iterator[str]:
    for case in cases:
        single = single_beside(case, cases)
        for engine in ENGINES if single is not None else ():
            found = scaling(model, case, single, engine)
            if found is not None:
                yield f"{engine}: {case.sequences} sequences ÷ one: {_ratio(found)}"


def _agreement_notes(model: dict, cases: list[Case]) -> Iterator[str]:
    alike = [(case.name, leading_agreement(model, case)) for case in cases]
    shown = [f"{name} {found[0]} of {found[1]}" for name, found in alike if found is not None]
    if shown:
        yield f"leading greedy tokens alike: {', '.join(shown)}"


def _engine_notes(model: dict, _: list[Case]) -> Iterator[str]:
    found = disturbance(model)
    if found is not None:
        yield f"processor time of the engine that waited: {found:.1%} of the other's time"
    for engine in ENGINES:
        why = missing_because(model, engine)
        if why is not None:
            yield f"{engine} was not measured: {why}"


def _ranged(found: Spread, scale: float = 1.0) -> str:
    low, middle, high = (each / scale for each in (found.low, found.median, found.high))
    digits = 0 if middle >= 100 else 1
    return f"{middle:.{digits}f} [{low:.{digits}f}..{high:.{digits}f}]"


def _speed(found: Spread | None) -> str:
    return NONE if found is None else _ranged(found)


def _ratio(found: Spread | None) -> str:
    if found is None:
        return NONE
    return f"{found.median:.2f} [{found.low:.2f}..{found.high:.2f}]"


def _share(found: Spread | None) -> str:
    return NONE if found is None else f"{found.median:.0%}"


def _aligned(table: Table) -> str:
    lines: Sequence[tuple[str, ...]] = (table.heads, *table.rows)
    widths = [max(len(line[at]) for line in lines) for at in range(len(table.heads))]
    body = [
        "  ".join(
            cell.rjust(width) if at else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]
    return "\n".join((table.title, *body))
