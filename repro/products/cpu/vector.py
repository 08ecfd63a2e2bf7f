"""Vectors in registers, for numba's kernels.

numba leaves it to the compiler to find vector instructions in loops, and a sum over a block of
outputs then goes through memory at every step. A value of the type ``Vector`` is a vector of
LLVM's: it stays in registers, several of them where the processor's are shorter, and the compiler
chooses the instructions of whatever processor it finds (AVX2, AVX-512, Neon). Arrays are
one-dimensional; where a number of lanes is asked for it is a constant.

>>> import numpy as np
>>> from repro.device.compiled import kernel
>>> @kernel()
... def twice(numbers):
...     store(numbers, 1, add(load(numbers, 1, 4), load(numbers, 1, 4)))
>>> numbers = np.arange(6.0)
>>> twice(numbers)
>>> numbers.tolist()
[0.0, 2.0, 4.0, 6.0, 8.0, 5.0]
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.extending import intrinsic, register_model

__all__ = [
    *("add", "bit_and", "bits_at_least", "bits_equal", "bits_greater", "bits_set", "broadcast"),
    *("cast", "clamp", "count_bits"),
    *("from_bits", "item", "load", "load_first", "lowest_one", "multiply", "ones_in"),
    *("shift_left", "store", "store_first", "subtract", "where_at_least", "where_greater"),
]

I32 = ir.IntType(32)


def _built_in(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that kernels call and that writes LLVM's instructions itself."""
    made: Callable[..., Any] = intrinsic(function)
    return made


def _with_constants(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the same of a function that is to see which numbers are constants."""
    made: Callable[..., Any] = intrinsic(prefer_literal=True)(function)
    return made


class Vector(types.Type):
    """numba's type of a vector.

    Attributes:
        element: numba's type of its elements.
        lanes: How many.
    """

    def __init__(self, element: Any, lanes: int) -> None:  # noqa: ANN401
        """Keep both."""
        self.element, self.lanes = element, lanes
        super().__init__(name=f"Vector({element}, {lanes})")


@register_model(Vector)
class _Model(models.PrimitiveModel):
    """A ``Vector`` is a value of LLVM's vector type."""

    def __init__(self, manager: Any, kind: Vector) -> None:  # noqa: ANN401
        super().__init__(manager, kind, _llvm(kind))


def _llvm(kind: Vector) -> ir.VectorType:
    """Return LLVM's type of a vector."""
    if isinstance(kind.element, types.Float):
        element = ir.DoubleType() if kind.element.bitwidth == 64 else ir.FloatType()
    else:
        element = ir.IntType(kind.element.bitwidth)
    return ir.VectorType(element, kind.lanes)


def _is_float(kind: Vector) -> bool:
    return isinstance(kind.element, types.Float)


def _of(element: Any, lanes: Any) -> Vector:  # noqa: ANN401
    """Return the type of a vector whose lanes are numba's type of a constant."""
    return Vector(types.unliteral(element), lanes.literal_value)


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, at: Any, kind: Vector) -> Any:  # noqa: ANN401
    """Return the address of a vector in an array."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [at]), _llvm(kind).as_pointer())


def _all(builder: Any, value: Any, lanes: int) -> Any:  # noqa: ANN401
    """Return a vector with the value in every lane."""
    kind = ir.VectorType(value.type, lanes)
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(I32, 0))
    zeros = ir.Constant(ir.VectorType(I32, lanes), None)
    return builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), zeros)


def _first_lanes(builder: Any, count: Any, lanes: int) -> Any:  # noqa: ANN401
    """Return a mask of the lanes below ``count``."""
    numbers = ir.Constant(ir.VectorType(I32, lanes), [ir.Constant(I32, k) for k in range(lanes)])
    return builder.icmp_signed("<", numbers, _all(builder, count, lanes))


def _call(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:  # noqa: ANN401
    """Call one of LLVM's own functions."""
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


def _suffix(kind: Vector) -> str:
    """Return how LLVM's names of functions call a type."""
    return f"v{kind.lanes}{'f' if _is_float(kind) else 'i'}{kind.element.bitwidth}"


@_with_constants
def broadcast(typing: Any, number: Any, lanes: Any) -> Any:  # noqa: ANN401
    """Return a vector with the number in every lane."""
    kind = _of(number, lanes)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ANN401
        value = context.cast(builder, arguments[0], signature.args[0], kind.element)
        return _all(builder, value, kind.lanes)

    return kind(number, lanes), code


@_built_in
def item(typing: Any, array: Any, at: Any) -> Any:  # noqa: ANN401
    """Return an element; unlike ``array[at]`` it never counts from the end."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ANN401
        index = context.cast(builder, arguments[1], signature.args[1], types.intp)
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.load(builder.gep(data, [index]))

    return array.dtype(array, at), code


@_with_constants
def load(typing: Any, array: Any, at: Any, lanes: Any) -> Any:  # noqa: ANN401
    """Return the elements of an array from ``at``."""
    kind = _of(array.dtype, lanes)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ANN401
        index = context.cast(builder, arguments[1], signature.args[1], types.intp)
        place = _pointer(context, builder, signature.args[0], arguments[0], index, kind)
        return builder.load(place, align=1, typ=_llvm(kind))

    return kind(array, at, lanes), code


@_with_constants
def load_first(typing: Any, array: Any, at: Any, lanes: Any, count: Any) -> Any:  # noqa: ANN401
    """Return the elements of an array from ``at`` in the first ``count`` lanes, 0 in the others."""
    kind = _of(array.dtype, lanes)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ANN401
        index = context.cast(builder, arguments[1], signature.args[1], types.intp)
        number = context.cast(builder, arguments[3], signature.args[3], types.int32)
        place = _pointer(context, builder, signature.args[0], arguments[0], index, kind)
        mask = _first_lanes(builder, number, kind.lanes)
        nothing = ir.Constant(_llvm(kind), None)
        name = f"llvm.masked.load.{_suffix(kind)}.p0"
        return _call(builder, name, _llvm(kind), [place, ir.Constant(I32, 1), mask, nothing])

    return kind(array, at, lanes, count), code


@_built_in
def store(typing: Any, array: Any, at: Any, vector: Any) -> Any:  # noqa: ANN401
    """Write a vector into an array from ``at``."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ANN401
        index = context.cast(builder, arguments[1], signature.args[1], types.intp)
        place = _pointer(context, builder, signature.args[0], arguments[0], index, vector)
        builder.store(arguments[2], place, align=1)
        return context.get_dummy_value()

    return types.void(array, at, vector), code


@_built_in
def store_first(typing: Any, array: Any, at: Any, vector: Any, count: Any) -> Any:  # noqa: ANN401
    """Write the first ``count`` lanes of a vector into an array from ``at``."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ANN401
        index = context.cast(builder, arguments[1], signature.args[1], types.intp)
        number = context.cast(builder, arguments[3], signature.args[3], types.int32)
        place = _pointer(context, builder, signature.args[0], arguments[0], index, vector)
        mask = _first_lanes(builder, number, vector.lanes)
        name = f"llvm.masked.store.{_suffix(vector)}.p0"
        given = [arguments[2], place, ir.Constant(I32, 1), mask]
        _call(builder, name, ir.VoidType(), given)
        return context.get_dummy_value()

    return types.void(array, at, vector, count), code


def _elementwise(
    name: str, of_floats: str | None, of_integers: str, doc: str
) -> Callable[..., Any]:
    """Return a function of two vectors of one type, by the names of LLVM's instructions."""

    def made(typing: Any, a: Any, b: Any) -> Any:  # noqa: ANN401
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ANN401
            instruction = of_floats if _is_float(a) else of_integers
            assert instruction is not None
            return getattr(builder, instruction)(*arguments)

        return (a(a, b), code) if a == b and isinstance(a, Vector) else None

    made.__name__ = made.__qualname__ = name
    made.__doc__ = doc
    return _built_in(made)


add = _elementwise("add", "fadd", "add", "Return ``a + b``.")
subtract = _elementwise("subtract", "fsub", "sub", "Return ``a - b``.")
multiply = _elementwise("multiply", "fmul", "mul", "Return ``a * b``.")
bit_and = _elementwise("bit_and", None, "and_", "Return ``a & b``.")


@_built_in
def shift_left(typing: Any, vector: Any, places: Any) -> Any:  # noqa: ANN401
    """Return a vector of whole numbers times two to the power of ``places``."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ANN401
        by = context.cast(builder, arguments[1], signature.args[1], vector.element)
        return builder.shl(arguments[0], _all(builder, by, vector.lanes))

    return vector(vector, places), code


@_built_in
def count_bits(typing: Any, vector: Any) -> Any:  # noqa: ANN401
    """Return how many bits of each lane are set."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ANN401
        return _call(builder, f"llvm.ctpop.{_suffix(vector)}", _llvm(vector), list(arguments))

    return vector(vector), code


@_built_in
def cast(typing: Any, vector: Any, dtype: Any) -> Any:  # noqa: ANN401
    """Return a vector in another type; of floats the whole part is kept, of integers the sign."""
    kind = Vector(dtype.dtype, vector.lanes)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ANN401
        value, to = arguments[0], _llvm(kind)
        before, after = vector.element.bitwidth, kind.element.bitwidth
        if _is_float(vector) and _is_float(kind):
            if before == after:
                return value
            return (builder.fptrunc if after < before else builder.fpext)(value, to)
        if _is_float(vector):
            return builder.fptosi(value, to)
        if _is_float(kind):
            return (builder.sitofp if vector.element.signed else builder.uitofp)(value, to)
        if before >= after:
            return value if before == after else builder.trunc(value, to)
        return (builder.sext if vector.element.signed else builder.zext)(value, to)

    return kind(vector, dtype), code


@_built_in
def clamp(typing: Any, vector: Any, greatest: Any) -> Any:  # noqa: ANN401
    """Return every lane brought between 0 and ``greatest``; 0 where it is NaN."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ANN401
        high = context.cast(builder, arguments[1], signature.args[1], vector.element)
        high, low = _all(builder, high, vector.lanes), ir.Constant(_llvm(vector), None)
        if _is_float(vector):
            compare = builder.fcmp_ordered
        else:
            compare = builder.icmp_signed if vector.element.signed else builder.icmp_unsigned
        above = builder.select(compare(">=", arguments[0], low), arguments[0], low)
        return builder.select(compare("<=", above, high), above, high)

    return vector(vector, greatest), code


def _comparison(name: str, sign: str, doc: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return two functions of two vectors of floats: where it holds as bits, and a choice by it."""

    def bits(typing: Any, a: Any, b: Any) -> Any:  # noqa: ANN401
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ANN401
            return _as_bits(builder, builder.fcmp_ordered(sign, *arguments), a.lanes)

        return types.uint64(a, b), code

    def choice(typing: Any, a: Any, b: Any, x: Any, y: Any) -> Any:  # noqa: ANN401
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ANN401
            first, second, *values = arguments
            return builder.select(builder.fcmp_ordered(sign, first, second), *values)

        return x(a, b, x, y), code

    bits.__name__ = bits.__qualname__ = f"bits_{name}"
    choice.__name__ = choice.__qualname__ = f"where_{name}"
    bits.__doc__ = f"Return in which lanes {doc}, lane 0 in the lowest bit of 64."
    choice.__doc__ = f"Return ``x`` in the lanes where {doc}, ``y`` in the others."
    return _built_in(bits), _built_in(choice)


bits_greater, where_greater = _comparison("greater", ">", "``a > b``")
bits_at_least, where_at_least = _comparison("at_least", ">=", "``a >= b``")


def _as_bits(builder: Any, mask: Any, lanes: int) -> Any:  # noqa: ANN401
    """Return a mask as a whole number of 64 bits, lane 0 in the lowest."""
    bits = builder.bitcast(mask, ir.IntType(lanes))
    return bits if lanes == 64 else builder.zext(bits, ir.IntType(64))


@_built_in
def bits_equal(typing: Any, a: Any, b: Any) -> Any:  # noqa: ANN401
    """Return which lanes are equal, lane 0 in the lowest bit of 64."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ANN401
        compare = builder.fcmp_ordered if _is_float(a) else builder.icmp_signed
        return _as_bits(builder, compare("==", *arguments), a.lanes)

    return (types.uint64(a, b), code) if a == b else None


@_built_in
def bits_set(typing: Any, vector: Any, place: Any) -> Any:  # noqa: ANN401
    """Return in which lanes of whole numbers the bit of a place is set, as ``bits_equal`` does."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ANN401
        by = context.cast(builder, arguments[1], signature.args[1], vector.element)
        bit = builder.shl(ir.Constant(by.type, 1), by)
        found = builder.and_(arguments[0], _all(builder, bit, vector.lanes))
        zero = ir.Constant(_llvm(vector), None)
        return _as_bits(builder, builder.icmp_signed("!=", found, zero), vector.lanes)

    return types.uint64(vector, place), code


@_with_constants
def from_bits(typing: Any, word: Any, lanes: Any) -> Any:  # noqa: ANN401
    """Return the lowest bits of a whole number as a vector of 0 and 1, int32."""
    kind = _of(types.int32, lanes)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ANN401
        bits = context.cast(builder, arguments[0], signature.args[0], types.uint64)
        if kind.lanes < 64:
            bits = builder.trunc(bits, ir.IntType(kind.lanes))
        mask = builder.bitcast(bits, ir.VectorType(ir.IntType(1), kind.lanes))
        return builder.zext(mask, _llvm(kind))

    return kind(word, lanes), code


@_built_in
def ones_in(typing: Any, word: Any) -> Any:  # noqa: ANN401
    """Return how many bits of a whole number are set."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ANN401
        kind = arguments[0].type
        count = _call(builder, f"llvm.ctpop.i{kind.width}", kind, list(arguments))
        return count if kind.width == 64 else builder.zext(count, ir.IntType(64))

    return types.int64(word), code


@_built_in
def lowest_one(typing: Any, word: Any) -> Any:  # noqa: ANN401
    """Return the place of the lowest bit that is set, of a whole number that is not 0."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ANN401
        kind = arguments[0].type
        never_zero = ir.Constant(ir.IntType(1), 1)
        place = _call(builder, f"llvm.cttz.i{kind.width}", kind, [arguments[0], never_zero])
        return place if kind.width == 64 else builder.zext(place, ir.IntType(64))

    return types.int64(word), code
