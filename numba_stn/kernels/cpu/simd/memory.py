"""Memory that a kernel uses: on its stack, and its caller's arrays without their owners."""

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from .vectors import I8, I64, LANES, lanes


@intrinsic(prefer_literal=True)
def stack_memory(typingctx, size):
    """A pointer to ``size`` bytes on the stack of the calling function."""
    if not isinstance(size, types.IntegerLiteral):
        return None

    def codegen(context, builder, signature, args):
        kind = ir.ArrayType(lanes(I64), -(-size.literal_value // (LANES * 8)))
        return builder.bitcast(cgutils.alloca_once(builder, kind), I8.as_pointer())

    return types.voidptr(size), codegen


@intrinsic
def borrowed(typingctx, value):
    """An array, or a (nested) tuple of arrays and numbers, whose arrays have no owner.

    Numba counts, atomically, how many variables refer to an array. Each time an array is taken
    out of a tuple or given to a function, that takes two additions; they made a row of 42 pixels
    11 % slower. A kernel's arrays belong to its caller, which waits for it. So the kernel drops
    the owners once, and LLVM removes the counting.

    A kernel gives borrowed arrays to the functions that it calls. In its own ``prange`` loop it
    writes to the array that it was given: Numba 0.68 loses what such a loop itself assigns to an
    element of an array that it has unpacked from a tuple.
    """

    def codegen(context, builder, signature, args):
        return _without_owner(context, builder, value, args[0])

    return value(value), codegen


@intrinsic
def keep_alive(typingctx, arrays):
    """Do nothing. A kernel's own arrays that are :func:`borrowed` live until this call, at least.

    Numba frees an array after the last line that names it.
    """

    def codegen(context, builder, signature, args):
        return context.get_dummy_value()

    return types.void(arrays), codegen


def _without_owner(context, builder, kind, value):
    if isinstance(kind, types.Array):
        array = context.make_array(kind)(context, builder, value)
        array.meminfo = cgutils.get_null_value(array.meminfo.type)
        array.parent = cgutils.get_null_value(array.parent.type)
        return array._getvalue()
    if isinstance(kind, types.BaseTuple):
        items = [
            _without_owner(context, builder, item, builder.extract_value(value, k))
            for k, item in enumerate(kind.types)
        ]
        return context.make_tuple(builder, kind, items)
    return value
