"""A GBNF grammar as Lark, for llguidance.

llguidance reads longest words first and characters never apart, whereas GBNF knows characters only:
``"a"* "ab"`` has the text ``aab``, which words would not find. So every character becomes a word
of its own, and only runs that cannot be taken for anything else are words as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from smallmind_engine.grammar.gbnf.nodes import (
    Chars,
    Either,
    Node,
    Ranges,
    Repeat,
    RuleRef,
    Series,
    walk,
)
from smallmind_engine.grammar.gbnf.parser import ROOT, GbnfError, read_gbnf
from smallmind_engine.grammar.gbnf.reach import clear_places, reach_of

_PLAIN: Final = frozenset(range(ord("0"), ord("9") + 1)) | frozenset(
    code for first in "aA" for code in range(ord(first), ord(first) + 26)
)


def gbnf_to_lark(text: str) -> str:
    """The Lark grammar, with ``start`` for ``root``, that has the same texts.

    Raises:
        GbnfError: ``text`` is no grammar, or there is no text that it fits.
    """
    rules = _used(read_gbnf(text))
    _check_ends(rules)
    writer = _Writer(rules, clear_places(reach_of(rules, ROOT)))
    return "\n".join(writer.rule(name) for name in rules) + "\n"


def _used(rules: Mapping[str, Node]) -> dict[str, Node]:
    """The rules that ``root`` is made of, itself first."""
    used: dict[str, Node] = {}
    todo = [ROOT]
    while todo:
        name = todo.pop()
        if name in used:
            continue
        if name not in rules:
            raise GbnfError(f"the rule {name!r} is used, but there is none of that name")
        used[name] = rules[name]
        todo += [each.name for each in walk(rules[name]) if isinstance(each, RuleRef)]
    return used


def _check_ends(rules: Mapping[str, Node]) -> None:
    """Raise when a rule refers to itself in every option: no text that begins it could end."""
    ending: set[str] = set()
    while True:
        more = {name for name, node in rules.items() if _may_end(node, ending)}
        if more == ending:
            break
        ending = more
    for name in rules:
        if name not in ending:
            raise GbnfError(f"the rule {name!r} has no end: all its options contain itself")


def _may_end(node: Node, ending: set[str]) -> bool:
    match node:
        case RuleRef(name):
            return name in ending
        case Series(parts):
            return all(_may_end(part, ending) for part in parts)
        case Either(options):
            return any(_may_end(option, ending) for option in options)
        case Repeat(body, least):
            return least == 0 or _may_end(body, ending)
        case _:
            return True


class _Writer:
    def __init__(self, rules: Mapping[str, Node], clear: frozenset[int]) -> None:
        self._names = {name: f"rule{number}" for number, name in enumerate(rules)}
        self._names[ROOT] = "start"
        self._rules = rules
        self._clear = clear

    def rule(self, name: str) -> str:
        return f"{self._names[name]}: {self._text(self._rules[name])}"

    def _text(self, node: Node) -> str:
        match node:
            case Chars(_, ranges):
                return f"/{_set(ranges)}/"
            case RuleRef(name):
                return self._names[name]
            case Series(parts):
                return " ".join(self._inner(part) for part in parts) or '""'
            case Either(options):
                return " | ".join(self._inner(option) for option in options)
            case Repeat():
                return self._repeat(node)

    def _inner(self, node: Node) -> str:
        text = self._text(node)
        return f"({text})" if isinstance(node, Either | Series) else text

    def _repeat(self, node: Repeat) -> str:
        body, least, most = node.body, node.least, node.most
        if most == 0:
            return '""'
        if isinstance(body, Chars) and body.place in self._clear:
            # An empty word is none: what may be absent is said outside of it.
            word = f"/{_set(body.ranges)}{_times(max(least, 1), most)}/"
            return word if least else f"({word})?"
        if isinstance(body, Either) and most is None and least <= 1:
            options = " | ".join(self._run(option) for option in body.options)
            return f"({options}){_times(least, most)}"
        return f"({self._text(body)}){_times(least, most)}"

    def _run(self, option: Node) -> str:
        """An option of an endless repetition: as many of it as there are, if that is clear."""
        if isinstance(option, Chars) and option.place in self._clear:
            return f"/{_set(option.ranges)}+/"
        return self._inner(option)


def _times(least: int, most: int | None) -> str:
    if most is None and least <= 1:
        return "+" if least else "*"
    return f"{{{least},{'' if most is None else most}}}"


def _set(ranges: Ranges) -> str:
    return f"[{''.join(_range(*each) for each in ranges)}]"


def _range(first: int, last: int) -> str:
    return _char(first) if first == last else f"{_char(first)}-{_char(last)}"


def _char(code: int) -> str:
    return chr(code) if code in _PLAIN else f"\\x{{{code:x}}}"
