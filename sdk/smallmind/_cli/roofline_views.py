"""What operations reached of what the machine can do, as tables and as JSON."""

from __future__ import annotations

from collections.abc import Iterable

from smallmind._cli.blocks import Bar, Column, Grid, facts
from smallmind._cli.formatting import seconds_text, share_text
from smallmind._cli.json_documents import Json
from smallmind_engine.telemetry import MachineMeasured, RooflineRow

_GIGA = 1e9


def machine_facts(measured: MachineMeasured) -> Grid:
    """The ceilings."""
    rows = [
        ("memory read", f"{measured.read_bytes_per_second / _GIGA:,.1f} GB/s"),
        ("float products", f"{measured.flops_per_second / _GIGA:,.0f} GFLOP/s"),
    ]
    if measured.byte_ops_per_second is not None:
        rows.append(("byte products", f"{measured.byte_ops_per_second / _GIGA:,.0f} Gop/s"))
    return facts(f"The machine, {measured.threads} threads", tuple(rows))


def roofline_grid(title: str, rows: Iterable[RooflineRow]) -> Grid:
    """A row for each operation."""
    names = ("calls", "time", "GB/s", "of memory", "GFLOP/s", "of products")
    return Grid(
        title=title,
        columns=(
            Column("operation"),
            Column("types"),
            *(Column(name, right=True) for name in names),
            Column("share of the time"),
        ),
        sections=(
            tuple(
                (
                    row.op,
                    row.quantization,
                    f"{row.calls:,}",
                    seconds_text(row.seconds),
                    f"{row.read_bytes_per_second / _GIGA:.2f}",
                    _share(row.read_share),
                    f"{row.flops_per_second / _GIGA:.1f}",
                    _share(row.compute_share),
                    Bar(row.time_share),
                )
                for row in rows
            ),
        ),
    )


def _share(share: float | None) -> str:
    return "-" if share is None else share_text(share)


def machine_document(measured: MachineMeasured) -> Json:
    """The ceilings."""
    return {
        "threads": measured.threads,
        "read_bytes_per_second": measured.read_bytes_per_second,
        "flops_per_second": measured.flops_per_second,
        "byte_ops_per_second": measured.byte_ops_per_second,
    }


def roofline_document(rows: Iterable[RooflineRow]) -> list[Json]:
    """An object for each operation."""
    return [
        {
            "op": row.op,
            "quantization": row.quantization,
            "calls": row.calls,
            "seconds": row.seconds,
            "time_share": row.time_share,
            "read_bytes": row.read_bytes,
            "flops": row.flops,
            "read_bytes_per_second": row.read_bytes_per_second,
            "flops_per_second": row.flops_per_second,
            "read_share": row.read_share,
            "compute_share": row.compute_share,
        }
        for row in rows
    ]
