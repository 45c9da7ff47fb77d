"""Reading traces strictly, and the rules that their records must keep."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

Record = dict
PHASES = {"B", "E", "X", "i", "C", "M"}


def parsed(path: Path, *, closed: bool = True) -> list[Record]:
    """The records; of a file without its end as viewers take it."""

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    text = path.read_text(encoding="ascii")
    if not closed:
        text = text[: text.rindex("\n")].rstrip(",\n") + "]"
    return json.loads(text, parse_constant=refuse)


def by_track(records: list[Record]) -> dict[int, list[Record]]:
    """Slices and instants by track, in the order of the file."""
    tracks = defaultdict(list)
    for record in records:
        if record["ph"] not in {"M", "C"}:
            tracks[record["tid"]].append(record)
    return tracks


def check_rules(records: list[Record], *, closed: bool = True) -> None:
    """Raise ``AssertionError`` unless every record is well-formed and every track nests."""
    named = {r["tid"] for r in records if r["ph"] == "M" and r["name"] == "thread_name"}
    for record in records:
        assert record["ph"] in PHASES, record
        assert isinstance(record["pid"], int)
        assert isinstance(record["tid"], int)
        assert record["ts"] >= 0
        assert isinstance(record["name"], str)
        if record["ph"] == "X":
            assert record["dur"] >= 0
        if record["ph"] == "C":
            assert all(isinstance(value, int | float) for value in record["args"].values())
    for track, shown in by_track(records).items():
        assert track in named, track
        _check_begins_and_ends(shown, closed=closed)
        _check_nesting(shown)


def _check_begins_and_ends(shown: list[Record], *, closed: bool) -> None:
    """Begins and ends come in order of time, and match like brackets."""
    open_names: list[str] = []
    latest = 0.0
    for record in shown:
        if record["ph"] == "X":
            continue
        assert record["ts"] >= latest, record
        latest = record["ts"]
        if record["ph"] == "B":
            open_names.append(record["name"])
        elif record["ph"] == "E":
            assert open_names.pop() == record["name"]
    assert not (closed and open_names), open_names


def slices(shown: list[Record]) -> list[tuple[float, float, str]]:
    """Begin, end and name of all slices that have ended, by beginning, the longer first."""
    found, running = [], []
    for record in shown:
        if record["ph"] == "X":
            found.append((record["ts"], round(record["ts"] + record["dur"], 3), record["name"]))
        elif record["ph"] == "B":
            running.append(record)
        elif record["ph"] == "E":
            begun = running.pop()
            found.append((begun["ts"], record["ts"], begun["name"]))
    return sorted(found, key=lambda each: (each[0], -each[1]))


def _check_nesting(shown: list[Record]) -> None:
    """A slice lies inside another or beside it, never across its end."""
    around: list[float] = []
    for begun, ended, name in slices(shown):
        while around and around[-1] <= begun:
            around.pop()
        assert not around or ended <= around[-1], (name, begun, ended, around[-1])
        around.append(ended)
