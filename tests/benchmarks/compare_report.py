"""Reads a report of the comparison again: its tables, and its chart.

python tests/benchmarks/compare_report.py --json FILE [--png FILE]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from compare_chart import write_chart
from compare_rounds import Settings
from compare_table import print_report
from machine_description import machine_description, today

FORMAT = 1
"""Of the JSON; counts up when a reader of the old form would be misled."""


def new_report(settings: Settings, models: list[dict]) -> dict:
    """The report of a run that ends now."""
    return {
        "format": FORMAT,
        "date": today(),
        "machine": machine_description(),
        "settings": settings.as_json(),
        "models": models,
    }


def write_json(report: dict, path: Path) -> None:
    """Write the report, with all of its samples."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict:
    """Read a report."""
    report = json.loads(path.read_text(encoding="utf-8"))
    if report.get("format") != FORMAT:
        raise SystemExit(f"{path} has format {report.get('format')}; this reads {FORMAT}")
    return report


def main() -> None:
    """Print the tables, and draw the chart when asked."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--png", type=Path)
    arguments = parser.parse_args()
    report = read_json(arguments.json)
    print_report(report)
    if arguments.png is not None:
        write_chart(report, arguments.png)


if __name__ == "__main__":
    main()
