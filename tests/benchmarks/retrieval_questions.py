"""Questions with known answers: docstrings of Python's library and of NumPy, cut in two.

The first sentence of a docstring says in plain words what a function is for: that is the question.
The rest, without it, is the document that should be found. The files are read, not imported.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import re
import sysconfig
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SHORTEST_BODY = 240
QUESTION_WORDS = (5, 30)
SIGNATURE = re.compile(r"[\w.]+\s?\(")
SKIPPED = {"test", "tests", "idlelib", "lib2to3", "turtledemo", "site-packages", "__pycache__"}
SPLITS = ("tuning", "reported", "withheld")


@dataclass(frozen=True, slots=True)
class Question:
    """A question and the source of the one document that answers it.

    Attributes:
        text: the first sentence of a docstring.
        source: of the rest of it.
        body: the rest of it.
        split: ``tuning``, ``reported``, or ``withheld``, whose documents are not indexed.
    """

    text: str
    source: str
    body: str
    split: str


def questions() -> list[Question]:
    """All of them, in an order that stays the same."""
    found = [each for root in roots() for each in _of_folder(root)]
    bodies = Counter(question.body for question in found)
    texts = Counter(question.text for question in found)
    # Where two functions share a sentence or a text there is no single right answer.
    return [q for q in found if bodies[q.body] == 1 and texts[q.text] == 1]


def roots() -> tuple[Path, ...]:
    """Python's library and NumPy."""
    return Path(sysconfig.get_path("stdlib")), Path(np.__file__).parent


def _of_folder(root: Path) -> Iterator[Question]:
    for path in sorted(root.rglob("*.py")):
        inner = path.relative_to(root)
        if SKIPPED & set(inner.parts) or "test" in inner.name:
            continue
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError, RecursionError):
            continue
        name = f"{root.name}/{inner.with_suffix('').as_posix()}"
        for node, docstring in _docstrings(tree):
            question = _cut(f"{name}/{node}.txt", docstring)
            if question is not None:
                yield question


def _docstrings(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for number, node in enumerate(ast.walk(tree)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node)
            if docstring:
                yield f"{node.name}-{number}", docstring
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "add_newdoc":
            texts = [each.value for each in ast.walk(node) if isinstance(each, ast.Constant)]
            longest = max((t for t in texts if isinstance(t, str)), key=len, default="")
            # NumPy's compiled functions get their docstrings so; the first line is a signature.
            _, _, rest = inspect.cleandoc(longest).partition("\n\n")
            if rest:
                yield f"newdoc-{number}", rest


def _cut(source: str, docstring: str) -> Question | None:
    summary, _, body = docstring.partition("\n\n")
    text = " ".join(summary.split())
    least, most = QUESTION_WORDS
    if SIGNATURE.match(text) or not least <= len(text.split()) <= most:
        return None
    if len(body) < SHORTEST_BODY:
        return None
    # By the name alone, so that a question stays in its split when others come and go.
    draw = hashlib.sha256(source.encode()).digest()[0]
    split = "withheld" if draw < 26 else SPLITS[draw % 2]
    return Question(text, source, body.strip(), split)
