"""How the functions of blocks are called from a kernel: as intrinsics, in two forms.

A form for segments of interior blocks, whose addresses :mod:`.addresses` has computed, and one for
a single border block. Each is a decorator of a function that emits the LLVM code.
"""

from numba.core import cgutils, types
from numba.extending import intrinsic

from ...math.sampler_kind import AFFINE
from .border import BorderBlock
from .row_segments import Row, RowSegment


def interior_function(build):
    """An intrinsic ``f(source, arrays, row, where, slots)`` for a segment of interior blocks.

    ``arrays`` are the images (or their gradient), the array of the coordinates, the samples (or
    their gradient), and further arrays that ``build`` needs; ``row`` is the row's map. ``where``
    starts with (m, n, i, k, count, slot, columns): in row i of samples n, which sample image m, the
    ``count`` blocks from the k-th on; ``slot`` is that of the first.
    """

    @intrinsic(prefer_literal=True)
    def function(typingctx, source, arrays, row, where, slots):
        if not isinstance(source, types.IntegerLiteral):
            return None

        def codegen(context, builder, signature, args):
            values, map_, where_ = (cgutils.unpack_tuple(builder, args[k]) for k in (1, 2, 3))
            own = Row(context, builder, list(arrays), values, where_[:3])
            segment = RowSegment(own.emit, where_[3:7], args[4])
            build(own, segment, source.literal_value == AFFINE, map_, *where_[7:])
            return context.get_dummy_value()

        return types.void(source, arrays, row, where, slots), codegen

    function.__name__ = build.__name__
    return function


def border_function(build):
    """An intrinsic ``f(source, padding, arrays, row, (fill, off), where)`` for a border block.

    ``arrays`` and ``row`` are as above; ``where`` starts with (m, n, i, j), for the block at column
    j.
    """

    @intrinsic(prefer_literal=True)
    def function(typingctx, source, padding, arrays, row, outside, where):
        if not all(isinstance(flag, types.IntegerLiteral) for flag in (source, padding)):
            return None

        def codegen(context, builder, signature, args):
            values, map_, outside_, where_ = (
                cgutils.unpack_tuple(builder, each) for each in args[2:]
            )
            own = Row(context, builder, list(arrays), values, where_[:3])
            flags = source.literal_value, padding.literal_value
            build(own, BorderBlock(own, flags, map_, where_[3], outside_, where_[4:]))
            return context.get_dummy_value()

        return types.void(source, padding, arrays, row, outside, where), codegen

    function.__name__ = build.__name__
    return function
