"""Loads of elements that are anywhere in memory, by the processor's gather instruction."""

from llvmlite import ir
from numba.core import cgutils

from .vectors import F32, F64, I32, I64, LANES, lanes

# The processor gathers numbers of 4 and 8 bytes. Smaller elements are cut out of the aligned word
# that holds them, which is always in memory, even where the word reaches beyond the array.
_WORD = 4


class _VectorOfPointers(ir.instructions.Instruction):
    """The addresses of the elements at a vector of indices."""

    def __init__(self, block, base, index):
        kind = ir.VectorType(base.type, index.type.count)
        super().__init__(block, kind, "getelementptr", [base, index])
        self.element = base.type.pointee

    def descr(self, buf):
        """Write the instruction."""
        base, index = self.operands
        buf.append(
            f"getelementptr {self.element}, {base.type} {base.get_reference()}, "
            f"{index.type} {index.get_reference()}\n"
        )


def gather(emit, base, index):
    """Load the elements of 4 or 8 bytes at a vector of indices from a pointer."""
    b, width, kind = emit.builder, index.type.count, base.type.pointee
    if width == 1:
        element = b.load(b.gep(base, [b.extract_element(index, I32(0))]))
        vector = ir.Constant(ir.VectorType(kind, 1), ir.Undefined)
        return b.insert_element(vector, element, I32(0))
    pointers = _VectorOfPointers(b.block, base, index)
    b._insert(pointers)
    return _masked_gather(b, pointers, kind, width)


def _masked_gather(b, pointers, kind, width, align=None):
    letter, bits = {"float": ("f", 32), "double": ("f", 64), "i32": ("i", 32)}[str(kind)]
    masks, values = ir.VectorType(ir.IntType(1), width), ir.VectorType(kind, width)
    function = cgutils.get_or_insert_function(
        b.module,
        ir.FunctionType(values, [pointers.type, I32, masks, values]),
        f"llvm.masked.gather.v{width}{letter}{bits}.v{width}p0",
    )
    everywhere = ir.Constant(masks, [1] * width)
    undefined = ir.Constant(values, ir.Undefined)
    return b.call(function, [pointers, I32(align or bits // 8), everywhere, undefined])


def gather_pairs(emit, bases, offsets_at):
    """As :meth:`.vectors.Emitter.load_pairs`, for float32: 8 pairs of 8 bytes at a time."""
    b, half = emit.builder, LANES // 2
    vectors = []
    for base in bases:
        parts = []
        for k in (0, 1):
            index = emit.load(b.add(offsets_at, I64(k * half * 4)), ir.VectorType(I32, half))
            start = b.inttoptr(base, F32.as_pointer())
            pointers = _VectorOfPointers(b.block, start, index)
            b._insert(pointers)
            # LLVM before version 17 has a type for what a pointer points to.
            of_pairs = b.bitcast(pointers, ir.VectorType(F64.as_pointer(), half))
            found = _masked_gather(b, of_pairs, F64, half, 4)
            parts.append(b.bitcast(found, ir.VectorType(F32, LANES)))
        vectors += emit.deinterleave(*parts)
    return vectors


def gather_elements(emit, plane, base, offsets):
    """Load a plane's elements at the lanes' offsets, of 64 bits, from an address."""
    b = emit.builder
    if plane.bytes >= _WORD:
        return gather(emit, b.inttoptr(base, plane.kind.as_pointer()), offsets)
    far = b.add(emit.splat(base), b.mul(offsets, lanes(I64, plane.bytes)))
    inside = b.trunc(b.and_(far, lanes(I64, _WORD - 1)), lanes(I32))
    words = b.lshr(far, lanes(I64, 2))
    found = gather(emit, b.inttoptr(I64(0), I32.as_pointer()), words)
    shifted = b.lshr(found, b.shl(inside, lanes(I32, 3)))
    return b.trunc(shifted, ir.VectorType(plane.kind, LANES))
