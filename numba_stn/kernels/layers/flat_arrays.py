"""Flat arrays in LLVM code, of which vectors of LANES elements or single ones are read."""

from numba.core import cgutils, types
from numba.extending import intrinsic

from ..cpu.simd.vectors import Emitter, lanes


class FlatArray:
    """A flat array, of which vectors or single elements are read and written."""

    def __init__(self, context, builder, kind, value):
        array = context.make_array(kind)(context, builder, value)
        self.builder, self.data = builder, array.data
        self.real = context.get_value_type(kind.dtype)
        self.bytes = kind.dtype.bitwidth // 8

    def _pointer(self, index):
        """Pointer to the vector that begins at an element."""
        vector = lanes(self.real).as_pointer()
        return self.builder.bitcast(self.builder.gep(self.data, [index]), vector)

    def vector(self, index):
        """Read LANES elements."""
        load = self.builder.load(self._pointer(index))
        load.align = self.bytes
        return load

    def store(self, vector, index):
        """Write LANES elements."""
        self.builder.store(vector, self._pointer(index)).align = self.bytes

    def number(self, index):
        """Read one element."""
        return self.builder.load(self.builder.gep(self.data, [index]))


def vector_function(build):
    """Make an intrinsic ``f(arrays, numbers)`` from ``build(emit, flat arrays, numbers)``."""

    @intrinsic
    def function(typingctx, arrays, numbers):
        def codegen(context, builder, signature, args):
            flat = [
                FlatArray(context, builder, kind, value)
                for kind, value in zip(arrays, cgutils.unpack_tuple(builder, args[0]), strict=True)
            ]
            build(Emitter(builder, flat[0].real), flat, cgutils.unpack_tuple(builder, args[1]))
            return context.get_dummy_value()

        return types.void(arrays, numbers), codegen

    function.__name__ = build.__name__
    return function
