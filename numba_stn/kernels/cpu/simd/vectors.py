"""LLVM vectors, written through llvmlite: the operations that all vector code is built from."""

from llvmlite import ir
from llvmlite.ir.instructions import LoadInstr
from numba.core import cgutils

LANES = 16

I1, I8, I32, I64 = (ir.IntType(bits) for bits in (1, 8, 32, 64))
F32, F64 = ir.FloatType(), ir.DoubleType()


def lanes(kind, values=None):
    """The vector type of LANES elements of type ``kind``, or a constant of that type.

    ``values`` is one value for all lanes, or a list with one value per lane.
    """
    vector = ir.VectorType(kind, LANES)
    if values is None:
        return vector
    return ir.Constant(vector, values if isinstance(values, list) else [values] * LANES)


class Emitter:
    """An LLVM builder with a block's vector operations; ``real`` is the working precision."""

    def __init__(self, builder, real):
        self.builder, self.real = builder, real
        self.bytes = 8 if real == F64 else 4

    def splat(self, value, count=LANES):
        """A vector with ``value`` in every lane."""
        undefined = ir.Constant(ir.VectorType(value.type, count), ir.Undefined)
        first = self.builder.insert_element(undefined, value, I32(0))
        zeros = ir.Constant(ir.VectorType(I32, count), [0] * count)
        return self.builder.shuffle_vector(first, undefined, zeros)

    def narrow(self, value):
        """A number or a vector, converted to the working precision."""
        return self._cast(value, self.builder.fptrunc, self.real)

    def widen(self, value):
        """A number or a vector, converted to float64."""
        return self._cast(value, self.builder.fpext, F64)

    @staticmethod
    def _cast(value, cast, kind):
        vector = isinstance(value.type, ir.VectorType)
        if (value.type.element if vector else value.type) == kind:
            return value
        return cast(value, ir.VectorType(kind, value.type.count) if vector else kind)

    def load(self, address, kind):
        """Load a vector of type ``kind`` from an address."""
        load = self.builder.load(self.builder.inttoptr(address, kind.as_pointer()))
        load.align = 8 if kind.element == F64 else 4
        return load

    def store(self, vector, address):
        """Store a vector at an address."""
        pointer = self.builder.inttoptr(address, vector.type.as_pointer())
        self.builder.store(vector, pointer).align = 8 if vector.type.element == F64 else 4

    def call(self, name, *args):
        """Call an LLVM intrinsic on vectors; its type is that of the last argument."""
        kind = args[-1].type
        letter = "f" if isinstance(kind.element, (ir.DoubleType, ir.FloatType)) else "i"
        bits = {"float": 32, "double": 64, "i32": 32, "i64": 64}[str(kind.element)]
        function = cgutils.get_or_insert_function(
            self.builder.module,
            ir.FunctionType(kind, [a.type for a in args]),
            f"llvm.{name}.v{kind.count}{letter}{bits}",
        )
        return self.builder.call(function, args)

    def call_float64(self, name, *args):
        """Call an LLVM intrinsic on float64 numbers."""
        kind = ir.FunctionType(F64, [F64] * len(args))
        function = cgutils.get_or_insert_function(self.builder.module, kind, f"llvm.{name}.f64")
        return self.builder.call(function, args)

    def prefetch(self, address):
        """Prefetch the cache line of an address, for reading."""
        pointer = self.builder.inttoptr(address, ir.IntType(8).as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, I32, I32, I32])
        function = cgutils.get_or_insert_function(self.builder.module, kind, "llvm.prefetch.p0")
        self.builder.call(function, [pointer, I32(0), I32(3), I32(1)])

    def clamp(self, i, low, high):
        """Clamp a vector of integers to [low, high]; the bounds are scalars."""
        return self.call("smin", self.splat(high), self.call("smax", self.splat(low), i))

    def minimum(self, one, two):
        """The smaller of two signed numbers."""
        return self.builder.select(self.builder.icmp_signed("<", one, two), one, two)

    def maximum(self, one, two):
        """The larger of two signed numbers."""
        return self.builder.select(self.builder.icmp_signed(">", one, two), one, two)

    def true_everywhere(self, *masks):
        """Whether all masks are true in every lane."""
        mask, bits = self.all_of(*masks), ir.IntType(LANES)
        return self.builder.icmp_unsigned("==", self.builder.bitcast(mask, bits), bits(-1))

    def all_of(self, *masks):
        """The mask of the lanes in which all masks are true."""
        result, *others = masks
        for mask in others:
            result = self.builder.and_(result, mask)
        return result

    def concatenate(self, parts):
        """Concatenate vectors of equal length; their number is a power of two."""
        while len(parts) > 1:
            width = 2 * parts[0].type.count
            order = ir.Constant(ir.VectorType(I32, width), list(range(width)))
            parts = [
                self.builder.shuffle_vector(a, b, order)
                for a, b in zip(parts[::2], parts[1::2], strict=True)
            ]
        return parts[0]

    def deinterleave(self, low, high):
        """Split two vectors of pairs into the pairs' first values and their second values."""
        return [
            self.builder.shuffle_vector(low, high, lanes(I32, list(range(k, 2 * LANES, 2))))
            for k in (0, 1)
        ]

    def load_pairs(self, bases, offset, plane):
        """Load the values at each lane's ``offset(k)`` from each base, and their right neighbours.

        This gives two vectors per base. The bases are :meth:`opaque`. A lane's offset, in elements,
        is loaded just before its pairs are, so that few offsets occupy registers at a time.
        """
        b, pair = self.builder, ir.VectorType(plane.kind, 2)
        loads: list[list] = [[] for _ in bases]
        for k in range(LANES):
            far = b.mul(b.zext(offset(k), I64), I64(plane.bytes))
            for base, found in zip(bases, loads, strict=True):
                load = b.load(b.inttoptr(b.add(base, far), pair.as_pointer()))
                load.align = plane.bytes
                found.append(load)
        vectors = []
        for found in loads:
            halves = found[: LANES // 2], found[LANES // 2 :]
            vectors += self.deinterleave(*(self.concatenate(half) for half in halves))
        return vectors

    def spill(self, vector):
        """Store a vector on the stack; returns a pointer to its first lane."""
        pointer = cgutils.alloca_once(self.builder, vector.type)
        self.builder.store(vector, pointer)
        return self.builder.bitcast(pointer, vector.type.element.as_pointer())

    def lane(self, pointer, k):
        """Load lane k of a vector that is in memory.

        The load is volatile. Otherwise LLVM would extract the lane from the vector's register,
        which takes longer, and keep LANES running addresses in a loop over channels.
        """
        return self._load_volatile(self.builder.gep(pointer, [I32(k)]))

    def opaque(self, value):
        """A number whose origin LLVM cannot see.

        If it is the base of LANES addresses, it stays in one register, and each load adds its own
        offset to it at no cost.
        """
        pointer = cgutils.alloca_once(self.builder, value.type)
        self.builder.store(value, pointer)
        return self._load_volatile(pointer)

    def _load_volatile(self, pointer):
        load = VolatileLoad(self.builder.block, pointer, typ=pointer.type.pointee)
        self.builder._insert(load)
        return load


class VolatileLoad(LoadInstr):
    """A load that LLVM does not change or remove."""

    def descr(self, buf):
        """Write the instruction."""
        super().descr(buf)
        buf[-1] = buf[-1].replace("load ", "load volatile ", 1)


class Plane:
    """An array, such as (N, C, H, W) or (N, H, W, 2), whose elements have addresses."""

    def __init__(self, context, builder, kind, value):
        array = context.make_array(kind)(context, builder, value)
        self.builder, self.kind = builder, context.get_value_type(kind.dtype)
        self.bytes = kind.dtype.bitwidth // 8
        self.start = builder.ptrtoint(array.data, I64)
        self.shape = cgutils.unpack_tuple(builder, array.shape)

    def address(self, *index):
        """Address of an element."""
        number = index[0]
        for side, i in zip(self.shape[1:], index[1:], strict=True):
            number = self.builder.add(self.builder.mul(number, side), i)
        return self.builder.add(self.start, self.builder.mul(number, I64(self.bytes)))
