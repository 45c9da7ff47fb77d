"""Write the Grafana dashboards and the Prometheus rules from their tables.

Run ``python dashboards/generate.py`` after a change; ``--check`` writes nothing and exits with 1
when a file is out of date. Needs the extra ``dashboards``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

import yaml

from boards import ALERTS, BOARDS, RECORDINGS
from boards.grafana import render_board

HERE: Final = Path(__file__).parent
NOTE: Final = "# Made by dashboards/generate.py: change dashboards/boards, then run it.\n"


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def rules() -> str:
    """The rules file of Prometheus."""
    recordings: list[dict[str, Any]] = [
        {"record": recording.record, "expr": recording.expr} for recording in RECORDINGS
    ]
    alerts: list[dict[str, Any]] = [
        {
            "alert": alert.name,
            "expr": alert.expr,
            **({"for": alert.lasts} if alert.lasts != "0s" else {}),
            "labels": {"severity": alert.severity.value},
            "annotations": {
                "summary": alert.summary,
                "description": alert.remedy,
                "dashboard": f"/d/{alert.board}",
            },
        }
        for alert in ALERTS
    ]
    groups = [
        {"name": "smallmind-recordings", "rules": recordings},
        {"name": "smallmind-alerts", "rules": alerts},
    ]
    return NOTE + yaml.dump({"groups": groups}, Dumper=_Dumper, sort_keys=False, width=100)


def files() -> dict[Path, str]:
    """Every generated file with its text."""
    boards = {HERE / "grafana" / f"{board.uid}.json": render_board(board) for board in BOARDS}
    return {**boards, HERE / "prometheus" / "rules.yml": rules()}


def main(arguments: list[str]) -> int:
    """Write the files, or with ``--check`` compare them; answers with the exit code."""
    stale = 0
    for path, text in files().items():
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        if "--check" in arguments:
            sys.stderr.write(f"{path} is out of date: run python dashboards/generate.py\n")
            stale = 1
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return stale


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
