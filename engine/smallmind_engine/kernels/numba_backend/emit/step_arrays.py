"""From the table of a step back to its arrays, in compiled code."""

from __future__ import annotations

from typing import Any, Final

from numba.core import types
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

from smallmind_engine.kernels.numba_backend.emit.compiled import inner
from smallmind_engine.kernels.numba_backend.emit.vector_ir import I64, Code, Value, number
from smallmind_engine.kernels.numba_backend.step import PLACES, Step

_AT: Final = PLACES
_SEARCH: Final = PLACES.search


def _array_reader(item: Any, dimensions: int) -> Any:
    """The function ``(address of words)``: the array whose address and shape stand there."""
    kind = types.Array(item, dimensions, "C")
    item_bytes = item.bitwidth // 8

    def typed(_context: Any, _words: Any) -> Any:
        def generate(context: Any, builder: Any, _signature: Any, values: Any) -> Value:
            code = Code(builder)
            (words,) = values
            data = code.load(I64, words, 8)
            shape = [code.load(I64, code.address(words, 8 * (1 + d)), 8) for d in range(dimensions)]
            strides = [number(item_bytes)]
            for size in shape[:0:-1]:
                strides.insert(0, code.b.mul(strides[0], size))
            array = context.make_array(kind)(context, builder)
            populate_array(
                array,
                data=builder.inttoptr(data, array.data.type),
                shape=shape,
                strides=strides,
                itemsize=number(item_bytes),
                meminfo=None,
            )
            return array._getvalue()  # noqa: SLF001 - Numba's way to answer with an array

        return kind(types.int64), generate

    return intrinsic(typed)


ints_1: Final = _array_reader(types.int64, 1)
_ints_2: Final = _array_reader(types.int64, 2)
_ints_3: Final = _array_reader(types.int64, 3)
_small_ints_2: Final = _array_reader(types.int32, 2)
_floats_1: Final = _array_reader(types.float32, 1)
_floats_2: Final = _array_reader(types.float32, 2)
_floats_3: Final = _array_reader(types.float32, 3)
_floats_4: Final = _array_reader(types.float32, 4)


@inner
def _search_at(t: int) -> Any:
    return (
        _floats_2(t + 8 * _SEARCH[0]),
        _floats_3(t + 8 * _SEARCH[1]),
        _floats_3(t + 8 * _SEARCH[2]),
        _floats_3(t + 8 * _SEARCH[3]),
        _floats_3(t + 8 * _SEARCH[4]),
        _floats_3(t + 8 * _SEARCH[5]),
        _ints_3(t + 8 * _SEARCH[6]),
        _ints_2(t + 8 * _SEARCH[7]),
        _floats_3(t + 8 * _SEARCH[8]),
        _ints_2(t + 8 * _SEARCH[9]),
        _ints_2(t + 8 * _SEARCH[10]),
        _small_ints_2(t + 8 * _SEARCH[11]),
        _ints_2(t + 8 * _SEARCH[12]),
    )


@inner
def step_at(t: int) -> Any:
    """The arrays that the table at an address tells of."""
    return Step(
        ints_1(t + 8 * _AT.sizes),
        _floats_1(t + 8 * _AT.constants),
        _ints_2(t + 8 * _AT.layers),
        _ints_2(t + 8 * _AT.matrices),
        _floats_1(t + 8 * _AT.vectors),
        _floats_4(t + 8 * _AT.turns),
        _ints_2(t + 8 * _AT.sequences),
        ints_1(t + 8 * _AT.tokens),
        ints_1(t + 8 * _AT.ids),
        ints_1(t + 8 * _AT.wanted),
        ints_1(t + 8 * _AT.functions),
        _floats_3(t + 8 * _AT.stream),
        _floats_3(t + 8 * _AT.normed),
        _floats_2(t + 8 * _AT.qkv),
        _floats_2(t + 8 * _AT.attended),
        _floats_2(t + 8 * _AT.block_out),
        _floats_3(t + 8 * _AT.inner),
        _ints_2(t + 8 * _AT.input_planes),
        ints_1(t + 8 * _AT.inner_planes),
        _floats_2(t + 8 * _AT.logits),
        _search_at(t),
        _ints_3(t + 8 * _AT.jobs),
        _ints_2(t + 8 * _AT.attends),
        _ints_2(t + 8 * _AT.puts),
        ints_1(t + 8 * _AT.counters),
        ints_1(t + 8 * _AT.barrier),
        ints_1(t + 8 * _AT.times),
        _ints_2(t + 8 * _AT.ahead),
    )
