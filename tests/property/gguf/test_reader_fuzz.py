"""Properties of the reader: what was written comes back, and damage gives clear errors only."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gguf_files import CODES, EXTREMES, Key, Tensor, gguf_bytes
from gguf_mutations import Base, base_files, excess_bytes, mutant, outcome
from smallmind_engine.control import NO_LIMIT
from smallmind_engine.gguf import read_header
from smallmind_engine.telemetry.errors import GgufFormatError

MUTANTS = 3000
BATCH = 500

ORDERS = st.sampled_from("<>")
NUMBERS = {
    kind: st.floats(width=32 if kind == "f32" else 64, allow_nan=False)
    if kind.startswith("f")
    else st.integers(*EXTREMES[kind])
    for kind in CODES
}
NAMES = st.text(max_size=20)
SCALARS = st.one_of(
    st.tuples(st.just("str"), st.text()),
    *(st.tuples(st.just(kind), values) for kind, values in NUMBERS.items()),
)
ARRAYS = st.one_of(
    st.tuples(st.just("[str]"), st.lists(st.text())),
    *(st.tuples(st.just(f"[{kind}]"), st.lists(values)) for kind, values in NUMBERS.items()),
)


@pytest.fixture(scope="module")
def bases() -> list[Base]:
    return base_files()


@given(
    st.dictionaries(NAMES, SCALARS | ARRAYS).map(dict),
    ORDERS,
    st.sampled_from([2, 3]),
    st.booleans(),
)
def test_metadata_comes_back_as_it_was_written(
    values: dict[str, tuple[str, object]],
    order: str,
    version: int,
    with_tensor: bool,  # noqa: FBT001 - a drawn value
) -> None:
    values.pop("general.alignment", None)
    keys: list[Key] = [(name, kind, value) for name, (kind, value) in values.items()]
    tensors = [Tensor("w")] if with_tensor else []

    found = read_header(
        gguf_bytes(keys, tensors, order=order, version=version), Path("m"), NO_LIMIT
    )

    plain = {
        key: value.tolist() if isinstance(value, np.ndarray) else value
        for key, value in found.metadata.items()
    }
    assert plain == {name: value for name, (_, value) in values.items()}
    assert list(found.tensors) == [tensor.name for tensor in tensors]


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=8), ORDERS, st.sampled_from([1, 8, 32, 512])
)
def test_tensors_are_found_where_they_are(sizes: list[int], order: str, alignment: int) -> None:
    tensors = [
        Tensor(f"t{index}", (size,), data=bytes([index]) * 4 * size)
        for index, size in enumerate(sizes)
    ]
    keys: list[Key] = [("general.alignment", "u32", alignment)]
    content = gguf_bytes(keys, tensors, order=order, alignment=alignment)

    found = read_header(content, Path("m"), NO_LIMIT).tensors

    for tensor in tensors:
        place = found[str(tensor.name)]
        assert content[place.byte_start : place.byte_start + place.n_bytes] == tensor.data


@given(st.binary(max_size=200), st.sampled_from([b"", b"GGUF\3\0\0\0", b"GGUF\0\0\0\3"]))
@example(b"", b"")
def test_noise_gives_a_clear_error_or_a_header(noise: bytes, head: bytes) -> None:
    content = head + noise
    try:
        header = read_header(content, Path("m"), NO_LIMIT)
    except GgufFormatError as error:
        where = error.details["offset"]
    else:
        where = header.header_bytes
    assert 0 <= where <= len(content)


def test_the_files_that_mutants_are_made_of_are_sound(bases: list[Base]) -> None:
    outcomes = {base.name: outcome(base.content) for base in bases}

    families = {"llama", "llama-yarn", "llama3", "gemma3", "gpt2"}
    assert {outcomes[name] for name in families} == {"read: spec, tokenizer"}
    assert {name: found for name, found in outcomes.items() if not found.startswith("read")} == {}


def test_mutants_do_not_depend_on_those_before(bases: list[Base]) -> None:
    assert mutant(bases, 0, 5) == mutant(bases, 0, 5) != mutant(bases, 0, 6)


@pytest.mark.parametrize("begin", range(0, MUTANTS, BATCH))
def test_damaged_files_give_clear_errors_only(bases: list[Base], begin: int) -> None:
    outcomes = Counter(outcome(mutant(bases, 2, index)) for index in range(begin, begin + BATCH))

    assert outcomes.total() == BATCH
    assert len(outcomes) >= 8  # or the mutants are all alike, and test little


@pytest.mark.parametrize("begin", range(0, MUTANTS, 2 * BATCH))
def test_damaged_files_take_no_more_memory_than_their_size_allows(
    bases: list[Base], begin: int
) -> None:
    for index in range(begin, begin + 20):
        assert excess_bytes(mutant(bases, 3, index)) <= 0
