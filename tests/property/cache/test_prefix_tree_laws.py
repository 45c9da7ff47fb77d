"""The prefix tree finds exactly what it holds, and never drops what is in use."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from smallmind_engine.cache import BLOCK_TOKENS, PrefixBlock, PrefixTree


class Content:
    """Counts its releases."""

    def __init__(self) -> None:
        self.released = 0

    def release(self) -> None:
        self.released += 1


def tokens(blocks: list[int]) -> list[int]:
    """A sequence of blocks, each of one token repeated."""
    return [block for block in blocks for _ in range(BLOCK_TOKENS)]


WORDS = st.lists(st.integers(0, 2), min_size=1, max_size=5)


class Prefixes(RuleBasedStateMachine):
    """Against a plain set of tuples: sequences come, share, go, and blocks are evicted."""

    def __init__(self) -> None:
        super().__init__()
        self.tree = PrefixTree()
        self.known: dict[tuple[int, ...], PrefixBlock] = {}
        self.held: list[list[PrefixBlock]] = []

    @rule(words=WORDS)
    def come(self, words: list[int]) -> None:
        """A sequence takes what is known, and adds the rest."""
        found = self.tree.find(tokens(words), len(words) * BLOCK_TOKENS)
        expected = 0
        while tuple(words[: expected + 1]) in self.known and expected < len(words):
            expected += 1
        assert len(found.blocks) == expected
        path = list(found.blocks)
        self.tree.hold(path)
        for end in range(expected + 1, len(words) + 1):
            parent = path[-1] if path else None
            ids = tuple(tokens(words[end - 1 : end]))
            path.append(self.tree.add(parent, ids, Content()))
            self.known[tuple(words[:end])] = path[-1]
        self.held.append(path)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def go(self, data: st.DataObject) -> None:
        """A sequence ends."""
        self.tree.let_go(self.held.pop(data.draw(st.integers(0, len(self.held) - 1))))

    @rule()
    def evict(self) -> None:
        """The least recently used block that nobody holds goes, and it has no branches."""
        idle = [block for block in self.known.values() if not block.holders]
        assert self.tree.evict() == bool(idle)
        gone = [words for words, block in self.known.items() if block.content.released]
        for words in gone:
            block = self.known.pop(words)
            assert block.holders == 0
            assert block.branches == []
            assert block.content.released == 1
            assert block.last_use == min(other.last_use for other in idle)

    @rule(words=WORDS, length=st.integers(0, 5 * BLOCK_TOKENS))
    def part_of_a_block_is_found(self, words: list[int], length: int) -> None:
        ids = tokens(words)[:length]
        match = self.tree.find(ids, len(ids))
        assert match.tokens <= len(ids)
        whole = tuple(ids[: len(match.blocks) * BLOCK_TOKENS : BLOCK_TOKENS])
        if match.blocks:
            assert self.known[whole] is match.blocks[-1]
        if match.partial is not None:
            begin = len(match.blocks) * BLOCK_TOKENS
            part = ids[begin : begin + match.partial_tokens]
            assert list(match.partial.token_ids[: match.partial_tokens]) == part
            assert match.partial_tokens > 0

    @invariant()
    def counts_are_right(self) -> None:
        assert self.tree.blocks == len(self.known)
        idle = [block for block in self.known.values() if not block.holders]
        assert self.tree.idle_blocks == len(idle)


Prefixes.TestCase.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
TestPrefixes = Prefixes.TestCase
