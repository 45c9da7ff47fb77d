"""Reads GBNF, as llama.cpp writes it.

Source: llama.cpp, ``grammars/README.md`` and ``src/llama-grammar.cpp``.
"""

from __future__ import annotations

import re
from typing import Final

from smallmind_engine.grammar.gbnf.nodes import (
    LAST_CHAR,
    Chars,
    Either,
    Node,
    Ranges,
    Repeat,
    RuleRef,
    Series,
    ranges_of,
)

ROOT: Final = "root"

_DEEPEST: Final = 100  # groups within groups
_MOST_TIMES: Final = 2000  # as in llama.cpp
_SPELLED_OUT: Final = 16  # characters, such as the four digits of an escape
_LONGEST: Final = 1_000_000
_NAME: Final = re.compile(r"[A-Za-z0-9_-]+")
_TIMES: Final = re.compile(r"\{\s*(\d{1,9})\s*(?:(,)\s*(\d{1,9})?\s*)?\}")
_BLANK: Final = re.compile(r"(?:[ \t]|#[^\r\n]*)+")
_BLANK_LINES: Final = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)+")
_HEX: Final = {"x": 2, "u": 4, "U": 8}
_ESCAPES: Final = {"n": "\n", "r": "\r", "t": "\t", **{char: char for char in '\\"[]-^/'}}
_SIGNS: Final = {"*": (0, None), "+": (1, None), "?": (0, 1)}


class GbnfError(ValueError):
    """What is wrong with a grammar.

    Attributes:
        where: ``line 3, column 7``; empty when it is nowhere in particular.
    """

    def __init__(self, message: str, where: str = "") -> None:
        super().__init__(message)
        self.where = where


def read_gbnf(text: str) -> dict[str, Node]:
    """The rules of a grammar by name.

    Raises:
        GbnfError: it is none, a rule is missing, or there is no text that a rule fits.
    """
    if len(text) > _LONGEST:
        raise GbnfError(f"it has {len(text):,} characters; at most {_LONGEST:,} are read")
    rules = _Reader(text).rules()
    if ROOT not in rules:
        raise GbnfError(f"it has no rule {ROOT!r}")
    return rules


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0
        self._places = 0

    def rules(self) -> dict[str, Node]:
        found: dict[str, Node] = {}
        self._skip(lines=True)
        while self._at < len(self._text):
            begin = self._at
            name = self._name("the name of a rule")
            self._skip(lines=False)
            self._take("::=")
            self._skip(lines=True)
            if name in found:
                self._at = begin
                raise self._error(f"there is a rule {name!r} already")
            found[name] = self._either(nested=False)
            self._skip(lines=True)
        return found

    def _either(self, *, nested: bool) -> Node:
        options = [self._series(nested=nested)]
        while True:
            before = self._at
            self._skip(lines=True)  # an option may stand on a line of its own
            if self._peek() != "|":
                self._at = before
                return options[0] if len(options) == 1 else Either(tuple(options))
            self._at += 1
            self._skip(lines=True)
            options.append(self._series(nested=nested))

    def _series(self, *, nested: bool) -> Node:
        parts: list[Node] = []
        while (part := self._part()) is not None:
            self._skip(lines=nested)
            for _ in range(_DEEPEST):
                times = self._times()
                if times is None:
                    break
                part = self._repeated(part, *times)
                self._skip(lines=nested)
            else:
                raise self._error(f"more than {_DEEPEST} repetitions are of each other")
            parts.append(part)
        return parts[0] if len(parts) == 1 else Series(tuple(parts))

    def _repeated(self, part: Node, least: int, most: int | None) -> Node:
        if isinstance(part, Chars) and least == most and least <= _SPELLED_OUT:
            # Each has a place of its own, so that what follows the last is known to.
            return Series(tuple(self._chars(part.ranges) for _ in range(least)))
        return Repeat(part, least, most)

    def _part(self) -> Node | None:
        sign = self._peek()
        if sign == '"':
            return self._literal()
        if sign == "[":
            return self._set()
        if sign == ".":
            self._at += 1
            return self._chars(ranges_of([], inverted=True))
        if sign == "(":
            return self._group()
        if sign in {"<", "!"}:
            raise self._error("tokens as parts of a grammar are not supported")
        if _NAME.match(self._text, self._at):
            return RuleRef(self._name("a rule"))
        if sign and sign not in "|)\r\n":
            raise self._error(f"{sign!r} begins nothing that is known")
        return None

    def _group(self) -> Node:
        self._at += 1
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._error(f"more than {_DEEPEST} groups are within each other")
        self._skip(lines=True)
        inner = self._either(nested=True)
        self._skip(lines=True)
        self._take(")")
        self._depth -= 1
        return inner

    def _literal(self) -> Node:
        begin = self._at
        self._at += 1
        parts: list[Node] = []
        while self._peek() != '"':
            code = self._char(begin)
            parts.append(self._chars(ranges_of([(code, code)], inverted=False)))
        self._at += 1
        return parts[0] if len(parts) == 1 else Series(tuple(parts))

    def _set(self) -> Chars:
        begin = self._at
        self._at += 1
        inverted = self._peek() == "^"
        self._at += inverted
        pairs: list[tuple[int, int]] = []
        while self._peek() != "]":
            first = last = self._char(begin)
            if self._peek() == "-" and self._text[self._at + 1 : self._at + 2] != "]":
                self._at += 1
                last = self._char(begin)
                if last < first:
                    raise self._error("a range of characters ends before it begins")
            pairs.append((first, last))
        self._at += 1
        ranges = ranges_of(pairs, inverted=inverted)
        if not ranges:
            self._at = begin
            raise self._error("no character is in this set")
        return self._chars(ranges)

    def _chars(self, ranges: Ranges) -> Chars:
        self._places += 1
        if not ranges:
            raise self._error("a lone surrogate is no character")
        return Chars(self._places - 1, ranges)

    def _char(self, begin: int) -> int:
        """The code point of a character in a literal or a set that began at ``begin``."""
        char = self._peek()
        if not char:
            self._at = begin
            raise self._error("this has no end")
        self._at += 1
        if char != "\\":
            return ord(char)
        escape = self._peek()
        self._at += 1
        if escape in _ESCAPES:
            return ord(_ESCAPES[escape])
        size = _HEX.get(escape, 0)
        digits = self._text[self._at : self._at + size]
        if not size or not re.fullmatch(f"[0-9A-Fa-f]{{{size}}}", digits):
            raise self._error(f"the escape \\{escape} is unknown, or not followed by its digits")
        self._at += size
        code = int(digits, 16)
        if code > LAST_CHAR:
            raise self._error(f"there is no character {digits}")
        return code

    def _times(self) -> tuple[int, int | None] | None:
        sign = self._peek()
        if sign in _SIGNS:
            self._at += 1
            return _SIGNS[sign]
        if sign != "{":
            return None
        written = _TIMES.match(self._text, self._at)
        if written is None:
            raise self._error("a number of times is written {3}, {3,} or {3,5}")
        least = int(written[1])
        most = int(written[3]) if written[3] else None if written[2] else least
        if max(least, most or 0) > _MOST_TIMES or (most is not None and most < least):
            raise self._error(f"it must be 0 to {_MOST_TIMES} times, the smaller number first")
        self._at = written.end()
        return least, most

    def _name(self, what: str) -> str:
        found = _NAME.match(self._text, self._at)
        if found is None:
            raise self._error(f"{what} is expected here")
        self._at = found.end()
        return found[0]

    def _take(self, sign: str) -> None:
        if not self._text.startswith(sign, self._at):
            raise self._error(f"{sign!r} is expected here")
        self._at += len(sign)

    def _skip(self, *, lines: bool) -> None:
        found = (_BLANK_LINES if lines else _BLANK).match(self._text, self._at)
        if found is not None:
            self._at = found.end()

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _error(self, message: str) -> GbnfError:
        before = self._text[: self._at]
        line = before.count("\n") + 1
        return GbnfError(message, f"line {line}, column {self._at - before.rfind(chr(10))}")
