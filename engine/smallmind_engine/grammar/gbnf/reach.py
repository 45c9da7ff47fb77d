"""Which characters may follow which in the texts of a grammar, and which can be told apart.

Every occurrence of a character set in the grammar is a place. Which place comes after which is
computed without regard to where a rule was entered from, so that there is more than the grammar
says, and never less.

Source: Glushkov 1961, "The abstract theory of automata": first, last and following places.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from smallmind_engine.grammar.gbnf.nodes import (
    Chars,
    Either,
    Node,
    Ranges,
    Repeat,
    RuleRef,
    Series,
    overlap,
    walk,
)

_MOST_PAIRS: Final = 50_000
"""More are not looked at: the grammar is then taken character by character."""


@dataclass(frozen=True, slots=True)
class Edges:
    """Where the texts of a node begin and end.

    Attributes:
        empty: whether the empty text is one of them.
        first: places of their first characters.
        last: places of their last characters.
    """

    empty: bool = False
    first: frozenset[int] = frozenset()
    last: frozenset[int] = frozenset()


@dataclass(slots=True)
class Reach:
    """What may follow what.

    Attributes:
        sets: characters of each place.
        follows: places that may come after each.
        first: places that a text may begin with.
        again: places that may follow themselves otherwise than by their own repetition.
    """

    sets: dict[int, Ranges] = field(default_factory=dict)
    follows: defaultdict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    first: frozenset[int] = frozenset()
    again: set[int] = field(default_factory=set)


def reach_of(rules: Mapping[str, Node], root: str) -> Reach:
    """What may follow what in the texts of ``root``, which is made of all the rules."""
    edges = _edges_of_rules(rules)
    reach = Reach(first=edges[root].first)
    for node in rules.values():
        for each in walk(node):
            if isinstance(each, Chars):
                reach.sets[each.place] = each.ranges
            elif isinstance(each, Series):
                _join_series(reach, [edges_of(part, edges) for part in each.parts])
            elif isinstance(each, Repeat) and each.most != 1:
                whole = edges_of(each.body, edges)
                _join(reach, whole.last, whole.first, own=own_places(each))
    return reach


def own_places(node: Repeat) -> frozenset[int]:
    """Places that a repetition repeats directly: as all of its body, or as an option of it."""
    body = node.body
    options = body.options if isinstance(body, Either) else (body,)
    return frozenset(option.place for option in options if isinstance(option, Chars))


def clear_places(reach: Reach) -> frozenset[int]:
    """Places whose characters cannot be taken for anything else where they may stand.

    Whenever a text may go on at such a place, it can go on nowhere else with the same character.
    """
    confused = set(reach.again)
    seen: set[tuple[int, int]] = set()
    todo: list[tuple[int, int]] = []

    def meet(left: Iterable[int], right: Iterable[int]) -> bool:
        """Note places that the same character may lead to; whether that was not too much."""
        for one in left:
            for other in right:
                pair = (one, other) if one <= other else (other, one)
                if one == other or pair in seen or not overlap(reach.sets[one], reach.sets[other]):
                    continue
                seen.add(pair)
                todo.append(pair)
                confused.update(pair)
                if len(seen) > _MOST_PAIRS:
                    return False
        return True

    sound = meet(reach.first, reach.first)
    sound = all(meet(after, after) for after in reach.follows.values()) and sound
    while todo and sound:
        left, right = todo.pop()
        sound = meet(reach.follows[left], reach.follows[right])
    return frozenset(reach.sets) - confused if sound else frozenset()


def edges_of(node: Node, rules: Mapping[str, Edges]) -> Edges:
    """Where the texts of a node begin and end, given those of the rules."""
    match node:
        case Chars(place):
            return Edges(first=frozenset((place,)), last=frozenset((place,)))
        case RuleRef(name):
            return rules[name]
        case Either(options):
            parts = [edges_of(option, rules) for option in options]
            return Edges(
                any(part.empty for part in parts),
                frozenset().union(*(part.first for part in parts)),
                frozenset().union(*(part.last for part in parts)),
            )
        case Repeat(body, least, most):
            inner = edges_of(body, rules) if most != 0 else Edges(empty=True)
            return Edges(inner.empty or least == 0, inner.first, inner.last)
        case Series(series):
            parts = [edges_of(part, rules) for part in series]
            return Edges(
                all(part.empty for part in parts),
                _leading([(part.empty, part.first) for part in parts]),
                _leading([(part.empty, part.last) for part in reversed(parts)]),
            )


def _leading(parts: list[tuple[bool, frozenset[int]]]) -> frozenset[int]:
    """Places of parts up to the first that is never empty."""
    found: frozenset[int] = frozenset()
    for empty, places in parts:
        found |= places
        if not empty:
            break
    return found


def _edges_of_rules(rules: Mapping[str, Node]) -> dict[str, Edges]:
    edges = dict.fromkeys(rules, Edges())
    changed = True
    while changed:
        changed = False
        for name, node in rules.items():
            found = edges_of(node, edges)
            if found != edges[name]:
                edges[name], changed = found, True
    return edges


def _join_series(reach: Reach, parts: list[Edges]) -> None:
    before: frozenset[int] = frozenset()
    for part in parts:
        _join(reach, before, part.first)
        before = part.last | before if part.empty else part.last


def _join(
    reach: Reach, before: frozenset[int], after: frozenset[int], own: frozenset[int] = frozenset()
) -> None:
    for place in before:
        reach.follows[place] |= after
    reach.again |= (before & after) - own
