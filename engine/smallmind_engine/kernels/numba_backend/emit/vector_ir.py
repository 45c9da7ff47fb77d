"""Building LLVM IR on vectors of 16 lanes: the few words that all kernels are written in.

Addresses are 64-bit integers; offsets are bytes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

LANES: Final = 16

I8: Final = ir.IntType(8)
I16: Final = ir.IntType(16)
I32: Final = ir.IntType(32)
I64: Final = ir.IntType(64)
F16: Final = ir.HalfType()
F32: Final = ir.FloatType()

INTS: Final = ir.VectorType(I32, LANES)
BYTES: Final = ir.VectorType(I8, 4 * LANES)
FLOATS: Final = ir.VectorType(F32, LANES)
HALVES: Final = ir.VectorType(F16, LANES)
SMALL_INTS: Final = ir.VectorType(I8, LANES)

Value = Any
"""An IR value; llvmlite carries no types."""


def number(value: int) -> Value:
    """A 64-bit constant."""
    return ir.Constant(I64, value)


def every(vector: Value, value: float) -> Value:
    """A vector constant of equal lanes."""
    return ir.Constant(vector, [value] * vector.count)


def zeros(vector: Value) -> Value:
    """A vector of zeros."""
    return ir.Constant(vector, None)


class Code:
    """Wraps an IR builder with the words below.

    Args:
        builder: where instructions go.
    """

    def __init__(self, builder: Any) -> None:
        self.b = builder

    # -- memory ---------------------------------------------------------------------------------

    def address(self, base: Value, *terms: Value | int) -> Value:
        """``base`` plus all ``terms``."""
        for term in terms:
            base = self.b.add(base, number(term) if isinstance(term, int) else term)
        return base

    def times(self, value: Value, factor: Value | int) -> Value:
        """A product of 64-bit integers."""
        return self.b.mul(value, number(factor) if isinstance(factor, int) else factor)

    def load(self, kind: Value, address: Value, align: int) -> Value:
        """A value of type ``kind``."""
        loaded = self.b.load(self.b.inttoptr(address, kind.as_pointer()))
        loaded.align = align
        return loaded

    def store(self, value: Value, address: Value, align: int) -> None:
        """Write ``value``."""
        stored = self.b.store(value, self.b.inttoptr(address, value.type.as_pointer()))
        stored.align = align

    def prefetch(self, address: Value, near: int = 3, *, to_write: bool = False) -> None:
        """Ask for a cache line ahead of its use: into the first cache, or (2) the second only.

        Args:
            address: within the line.
            near: which cache.
            to_write: whether other cores are to give it up, for which a store would wait.
        """
        pointer = I8.as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [pointer, I32, I32, I32])
        read, keep, data = (ir.Constant(I32, value) for value in (int(to_write), near, 1))
        self.external(kind, "llvm.prefetch.p0", self.b.inttoptr(address, pointer), read, keep, data)

    # -- vectors --------------------------------------------------------------------------------

    def splat(self, vector: Value, value: Value) -> Value:
        """All lanes equal to a scalar."""
        one = self.b.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(I32, 0))
        mask = ir.Constant(ir.VectorType(I32, vector.count), None)
        return self.b.shuffle_vector(one, ir.Constant(vector, ir.Undefined), mask)

    def part(self, value: Value, begin: int, count: int) -> Value:
        """Some lanes of a vector."""
        mask = ir.Constant(ir.VectorType(I32, count), list(range(begin, begin + count)))
        return self.b.shuffle_vector(value, ir.Constant(value.type, ir.Undefined), mask)

    def joined(self, parts: Sequence[Value]) -> Value:
        """Vectors one behind the other; their number is a power of two."""
        while len(parts) > 1:
            count = 2 * parts[0].type.count
            mask = ir.Constant(ir.VectorType(I32, count), list(range(count)))
            parts = [
                self.b.shuffle_vector(parts[i], parts[i + 1], mask) for i in range(0, len(parts), 2)
            ]
        return parts[0]

    def bits(self, value: Value, kind: Value) -> Value:
        """The same bits as another type."""
        return self.b.bitcast(value, kind)

    def fma(self, x: Value, y: Value, z: Value) -> Value:
        """``x * y + z`` with one rounding."""
        name = "f32" if x.type == F32 else f"v{x.type.count}f32"
        return self.external(ir.FunctionType(x.type, [x.type] * 3), f"llvm.fma.{name}", x, y, z)

    def unary(self, name: str, x: Value) -> Value:
        """An intrinsic from floats to floats, such as ``fabs``."""
        kind = "f32" if x.type == F32 else f"v{x.type.count}f32"
        return self.external(ir.FunctionType(x.type, [x.type]), f"llvm.{name}.{kind}", x)

    def larger(self, x: Value, y: Value) -> Value:
        """The larger of two floats; ``y`` where one is no number. One instruction on x86."""
        return self.b.select(self.b.fcmp_ordered(">", x, y), x, y)

    def smaller(self, x: Value, y: Value) -> Value:
        """The smaller of two floats, in the same manner."""
        return self.b.select(self.b.fcmp_ordered("<", x, y), x, y)

    def folded(self, vector: Value, combine: Callable[[Value, Value], Value]) -> Value:
        """All lanes combined into one, halves with halves: few steps, in an order that is fixed."""
        count = vector.type.count
        while count > 1:
            count //= 2
            vector = combine(self.part(vector, 0, count), self.part(vector, count, count))
        return self.b.extract_element(vector, ir.Constant(I32, 0))

    def external(self, kind: Value, name: str, *arguments: Value) -> Value:
        """A call of a function that is found by name: an LLVM intrinsic, or one of C."""
        function = cgutils.get_or_insert_function(self.b.module, kind, name)
        return self.b.call(function, list(arguments))

    def in_register(self, value: Value) -> Value:
        """The same vector, of which LLVM knows no more than that it is in a register of x86.

        It would sum up in trees, which takes more registers than there are.
        """
        kind = ir.FunctionType(value.type, [value.type])
        return self.b.asm(kind, "", "=x,0", [value], side_effect=False)

    # -- variables and loops --------------------------------------------------------------------

    def variable(self, value: Value) -> Value:
        """Memory on the stack with a first value; LLVM keeps it in a register."""
        slot = cgutils.alloca_once(self.b, value.type)
        self.b.store(value, slot)
        return slot

    @contextmanager
    def loop(self, begin: Value | int, end: Value, step: int = 1) -> Iterator[Value]:
        """``for i in range(begin, end, step)``; yields i."""
        first = number(begin) if isinstance(begin, int) else begin
        with cgutils.for_range_slice(self.b, first, end, number(step), I64) as (index, _):
            yield index


def ir_function(emit: Callable[..., Value | None], count: int, result: Any = None) -> Any:
    """A Numba intrinsic of ``count`` arguments whose body ``emit`` writes.

    Args:
        emit: called with a ``Code`` and the arguments as IR values; returns the result, if any.
        count: number of arguments, 64-bit integers or floats.
        result: Numba type of the result; None for none.
    """

    def typed(_context: Any, *arguments: Any) -> Any:
        def generate(context: Any, builder: Any, _signature: Any, values: Any) -> Value:
            answer = emit(Code(builder), *values)
            return context.get_dummy_value() if answer is None else answer

        return (result or types.void)(*arguments), generate

    names = ["context", *(f"argument_{index}" for index in range(count))]
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    # Numba asks how many arguments there are.
    typed.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(name, kind) for name in names]
    )
    return intrinsic(typed)


def kernel_of(emit: Callable[[Code, Value, Value], None]) -> Callable[[int, int], None]:
    """The function of two addresses whose body ``emit`` writes, to be compiled by Numba."""
    body: Any = ir_function(emit, 2)

    def kernel(first: int, second: int) -> None:
        body(first, second)

    return kernel


class Fields:
    """Reads 64-bit fields of a record by their place.

    LLVM may read a field once for all: nothing that a kernel writes changes it.

    Args:
        code: where instructions go.
        address: of the record.
    """

    def __init__(self, code: Code, address: Value) -> None:
        self._code = code
        self._address = address

    def __getitem__(self, place: int) -> Value:
        loaded = self._code.load(I64, self.address(place), 8)
        loaded.set_metadata("invariant.load", self._code.b.module.add_metadata([]))
        return loaded

    def address(self, place: int) -> Value:
        """Where a field is."""
        return self._code.address(self._address, 8 * place)
