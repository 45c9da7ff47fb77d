"""Where pages lie: side by side in huge pages, and given back when nobody has them."""

from __future__ import annotations

import gc
import itertools
import mmap
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest

from smallmind_engine.cache import page_memory
from smallmind_engine.cache.page_memory import PageMemory
from smallmind_engine.cache.paged_kv_cache import PagedKVCache, PagePool
from smallmind_engine.memory import huge_pages
from smallmind_engine.memory.huge_pages import CAN_GIVE_BACK, HUGE_PAGE, HugeMemory

LARGE, SMALL = 360 * 4096 - 64, 640

on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
gives_back = pytest.mark.skipif(not CAN_GIVE_BACK, reason="memory cannot be given back in parts")


def resident_bytes(memory: np.ndarray) -> int:
    """How much of what lies at the array's addresses is in memory, as the system says."""
    begin, end = memory.ctypes.data, memory.ctypes.data + memory.nbytes
    with Path("/proc/self/pagemap").open("rb") as pages:
        pages.seek(begin // mmap.PAGESIZE * 8)
        entries = np.frombuffer(pages.read((end - begin) // mmap.PAGESIZE * 8), np.uint64)
    return int(np.count_nonzero(entries >> np.uint64(63))) * mmap.PAGESIZE


def test_memory_begins_at_a_huge_page_and_is_zero() -> None:
    memory = HugeMemory(3 << 20)
    assert memory.array.ctypes.data % HUGE_PAGE == 0
    assert memory.array.nbytes == 3 << 20
    assert not memory.array.any()


@gives_back
def test_large_pages_lie_side_by_side_and_apart() -> None:
    source = PageMemory(LARGE)
    places = [source.take() for _ in range(40)]  # of more than one piece
    begins = sorted(place.memory.ctypes.data for place in places)
    assert all(begin % 64 == 0 for begin in begins)
    assert all(after - before >= LARGE for before, after in itertools.pairwise(begins))
    first = [place for place in places if place.piece is places[0].piece]
    assert len(first) > 20
    assert places[1].memory.ctypes.data - places[0].memory.ctypes.data == 360 * 4096
    for place in places:
        assert place.memory.nbytes == LARGE


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_what_is_given_back_is_taken_again(size: int) -> None:
    source = PageMemory(size)
    kept, place = source.take(), source.take()
    kept.memory[:] = 3
    place.memory[:] = 7
    source.give_back(place)
    again = source.take()
    assert again.memory.ctypes.data % 64 == 0
    assert (kept.memory == 3).all()


@gives_back
@on_linux
def test_what_is_given_back_is_the_systems_again() -> None:
    source = PageMemory(LARGE)
    place = source.take()
    place.memory[:] = 1
    # A page of the system at each end may belong to the neighbours too.
    assert resident_bytes(place.memory) >= LARGE - 2 * mmap.PAGESIZE
    source.give_back(place)
    assert resident_bytes(place.memory) <= 2 * mmap.PAGESIZE


@gives_back
def test_a_pool_gives_back_more_pages_than_it_keeps() -> None:
    pool = PagePool(LARGE, most_idle=1)
    cache = PagedKVCache(pool, 3 * 64)
    addresses = sorted(cache.addresses.tolist())
    for page in cache._pages:
        page.memory[:] = 5
    cache.release()
    assert pool.nbytes == LARGE
    later = PagedKVCache(pool, 3 * 64)
    assert sorted(later.addresses.tolist()) == addresses
    assert sum(bool(page.memory.any()) for page in later._pages) == 1
    later.release()
    pool.drop_idle()
    assert pool.nbytes == 0


@gives_back
def test_what_the_host_has_locked_stays_and_troubles_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The system says so of locked memory; here it is asked for what it does not know.
    monkeypatch.setattr(huge_pages, "_NOT_NEEDED", 9999)
    pool = PagePool(LARGE, most_idle=0)
    cache = PagedKVCache(pool, 2 * 64)
    cache.release()
    assert pool.lent == 0
    assert PagedKVCache(pool, 2 * 64).capacity == 2 * 64


@gives_back
def test_a_kernel_without_huge_pages_gives_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huge_pages, "_ADVICE", 9999)
    assert HugeMemory(5000).array.nbytes == 5000


@gives_back
def test_where_no_piece_fits_a_page_alone_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MemoryError):
        HugeMemory(1 << 60)
    monkeypatch.setattr(page_memory, "HugeMemory", lambda _: HugeMemory(1 << 60))
    place = PageMemory(LARGE).take()
    assert place.piece is None
    assert place.memory.nbytes == LARGE


@gives_back
def test_a_piece_goes_with_the_last_of_its_pages() -> None:
    pool = PagePool(LARGE)
    cache = PagedKVCache(pool, 64)
    piece = weakref.ref(cache._pages[0].memory.base)
    pool.drop_idle()
    assert piece() is not None
    cache.release()
    pool.drop_idle()
    gc.collect()
    assert piece() is None
