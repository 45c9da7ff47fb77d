"""What of a prompt a sequence has already, or can take over from others."""

from __future__ import annotations

from collections.abc import Sequence

from smallmind_engine.cache import BLOCK_TOKENS, PrefixMatch, PrefixTree, common_prefix
from smallmind_engine.runtime.kv_slot import CacheSlot


def matched(
    slot: CacheSlot,
    token_ids: Sequence[int],
    tree: PrefixTree | None,
    *,
    whole_only: bool,
    any_copied: bool,
) -> tuple[PrefixMatch | None, int]:
    """Compare a prompt with a slot's own cache and with the blocks of others.

    Args:
        slot: of the request.
        token_ids: the whole prompt.
        tree: the blocks of others; None to leave them alone.
        whole_only: take no block in part, which needs a copy of it.
        any_copied: take blocks of others at all.

    Returns:
        What is taken over (None to go on with the slot's own cache), and how many tokens need not
        be computed.
    """
    # The last token of a prompt is always computed: its logits are needed.
    most = len(token_ids) - 1
    own = 0 if slot.cache is None else min(common_prefix(slot.token_ids, token_ids), most)
    match: PrefixMatch | None = None
    if own < len(slot.shared) * BLOCK_TOKENS:
        # It departs from the blocks that it shares: it begins anew with some of them.
        whole, rest = divmod(own, BLOCK_TOKENS)
        match = PrefixMatch(tuple(slot.shared[:whole]), slot.shared[whole], rest)
    if tree is not None and any_copied:
        found = tree.find(token_ids, most)
        if whole_only:
            found = PrefixMatch(found.blocks)
        if found.tokens > own:
            return found, found.tokens
    return match, own
