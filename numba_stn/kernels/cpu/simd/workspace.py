"""The workspace that holds the addresses and fractions of interior blocks, one slot per block."""

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from .vectors import I32, I64, LANES, lanes

# The number of blocks that a chunk of a row has, for which a workspace has slots.
SLOTS = 16

# Bytes of a workspace for two chunks: for each block the fractions in x and in y, and the offsets.
WORKSPACE = 2 * SLOTS * LANES * (8 + 8 + 4)


class Slot:
    """The slot with this number, in the workspace that starts at the pointer ``start``."""

    def __init__(self, emit, start, number):
        b, vector = emit.builder, LANES * emit.bytes
        self.emit = emit
        self.x = b.add(b.ptrtoint(start, I64), b.mul(number, I64(2 * vector + LANES * 4)))
        self.y, self.offsets = (b.add(self.x, I64(k * vector)) for k in (1, 2))

    def fractions(self):
        """Fractions in x and in y."""
        kind = lanes(self.emit.real)
        return [self.emit.load(address, kind) for address in (self.x, self.y)]

    def offset(self, k):
        """The number of elements from the image's first to the lower tap of lane k."""
        pointer = self.emit.builder.inttoptr(self.offsets, I32.as_pointer())
        return self.emit.lane(pointer, k)


@intrinsic
def interior_length(typingctx, inside):
    """The number of blocks in an interior segment: of lowest bits that are set."""

    def codegen(context, builder, signature, args):
        return builder.cttz(builder.not_(args[0]), ir.IntType(1)(0))

    return types.int64(types.int64), codegen


def first_column(emit, k, columns):
    """First column of block k; the last block is moved back to end with the row."""
    b = emit.builder
    return emit.minimum(b.mul(k, I64(LANES)), b.sub(columns, I64(LANES)))
