"""LLVM vectors, written through llvmlite: what :mod:`.bilinear` is made of."""

from llvmlite import ir
from llvmlite.ir.instructions import LoadInstr
from numba.core import cgutils

LANES = 16

I1, I8, I32, I64 = (ir.IntType(bits) for bits in (1, 8, 32, 64))
F32, F64 = ir.FloatType(), ir.DoubleType()


def lanes(kind, values=None):
    """The vector type of a kind, or a constant of it: one value for all lanes, or one each."""
    vector = ir.VectorType(kind, LANES)
    if values is None:
        return vector
    return ir.Constant(vector, values if isinstance(values, list) else [values] * LANES)


class Emitter:
    """A builder of LLVM code, with the vector operations that a block needs."""

    def __init__(self, builder, real):
        self.builder, self.real = builder, real
        self.bytes = 8 if real == F64 else 4

    def splat(self, value, count=LANES):
        """A scalar in every lane."""
        undefined = ir.Constant(ir.VectorType(value.type, count), ir.Undefined)
        first = self.builder.insert_element(undefined, value, I32(0))
        zeros = ir.Constant(ir.VectorType(I32, count), [0] * count)
        return self.builder.shuffle_vector(first, undefined, zeros)

    def narrow(self, value):
        """A number, or a vector of them, in the working precision."""
        return self._cast(value, self.builder.fptrunc, self.real)

    def widen(self, value):
        """A number, or a vector of them, in float64."""
        return self._cast(value, self.builder.fpext, F64)

    @staticmethod
    def _cast(value, cast, kind):
        vector = isinstance(value.type, ir.VectorType)
        if (value.type.element if vector else value.type) == kind:
            return value
        return cast(value, ir.VectorType(kind, value.type.count) if vector else kind)

    def load(self, address, kind):
        """A vector from an address."""
        load = self.builder.load(self.builder.inttoptr(address, kind.as_pointer()))
        load.align = 8 if kind.element == F64 else 4
        return load

    def store(self, vector, address):
        """A vector to an address."""
        place = self.builder.inttoptr(address, vector.type.as_pointer())
        self.builder.store(vector, place).align = 8 if vector.type.element == F64 else 4

    def call(self, name, *args):
        """One of LLVM's own functions, on vectors of its last argument's type."""
        kind = args[-1].type
        letter = "f" if isinstance(kind.element, (ir.DoubleType, ir.FloatType)) else "i"
        bits = {"float": 32, "double": 64, "i32": 32, "i64": 64}[str(kind.element)]
        function = cgutils.get_or_insert_function(
            self.builder.module,
            ir.FunctionType(kind, [a.type for a in args]),
            f"llvm.{name}.v{kind.count}{letter}{bits}",
        )
        return self.builder.call(function, args)

    def number(self, name, *args):
        """One of LLVM's own functions, on float64 numbers."""
        kind = ir.FunctionType(F64, [F64] * len(args))
        function = cgutils.get_or_insert_function(self.builder.module, kind, f"llvm.{name}.f64")
        return self.builder.call(function, args)

    def prefetch(self, address):
        """Ask for a cache line, to be read."""
        place = self.builder.inttoptr(address, ir.IntType(8).as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [place.type, I32, I32, I32])
        function = cgutils.get_or_insert_function(self.builder.module, kind, "llvm.prefetch.p0")
        self.builder.call(function, [place, I32(0), I32(3), I32(1)])

    def clamp(self, i, low, high):
        """Whole numbers brought into [low, high]; scalar bounds."""
        return self.call("smin", self.splat(high), self.call("smax", self.splat(low), i))

    def least(self, one, two):
        """The smaller of two signed numbers."""
        return self.builder.select(self.builder.icmp_signed("<", one, two), one, two)

    def most(self, one, two):
        """The larger of two signed numbers."""
        return self.builder.select(self.builder.icmp_signed(">", one, two), one, two)

    def every(self, masks):
        """Whether all the conditions hold in every lane."""
        whole = self.both(*masks)
        bits = ir.IntType(LANES)
        return self.builder.icmp_unsigned("==", self.builder.bitcast(whole, bits), bits(-1))

    def both(self, *masks):
        """Lanes where all the conditions hold."""
        whole = masks[0]
        for mask in masks[1:]:
            whole = self.builder.and_(whole, mask)
        return whole

    def join(self, parts):
        """Vectors end to end."""
        while len(parts) > 1:
            width = 2 * parts[0].type.count
            order = ir.Constant(ir.VectorType(I32, width), list(range(width)))
            parts = [
                self.builder.shuffle_vector(a, b, order)
                for a, b in zip(parts[::2], parts[1::2], strict=True)
            ]
        return parts[0]

    def apart(self, low, high):
        """Two vectors of pairs as the pairs' first and second values."""
        return [
            self.builder.shuffle_vector(low, high, lanes(I32, list(range(k, 2 * LANES, 2))))
            for k in (0, 1)
        ]

    def pairs(self, bases, offset, plane):
        """The values at each lane's ``offset(k)`` from each base, and behind it: 2 vectors a base.

        The bases are :meth:`hidden`. A lane's offset, in elements, is loaded just before its
        pairs are, so that few need registers at a time.
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
            low, high = self.join(found[: LANES // 2]), self.join(found[LANES // 2 :])
            vectors += self.apart(low, high)
        return vectors

    def stored(self, vector):
        """The address of a vector's lanes in memory."""
        place = cgutils.alloca_once(self.builder, vector.type)
        self.builder.store(vector, place)
        return self.builder.bitcast(place, vector.type.element.as_pointer())

    def lane(self, place, k):
        """Lane k of a stored vector as a number of its own.

        The load is volatile: LLVM would otherwise take it out of the vector's register, which
        takes longer, and keep LANES running addresses in a loop over channels.
        """
        return self._kept(self.builder.gep(place, [I32(k)]))

    def hidden(self, value):
        """A number whose origin LLVM cannot see.

        As the base of LANES addresses it stays one register, to which each load adds its own
        offset for nothing.
        """
        place = cgutils.alloca_once(self.builder, value.type)
        self.builder.store(value, place)
        return self._kept(place)

    def _kept(self, place):
        load = VolatileLoad(self.builder.block, place, typ=place.type.pointee)
        self.builder._insert(load)
        return load


class VolatileLoad(LoadInstr):
    """A load that LLVM keeps as it is."""

    def descr(self, buf):
        """Write the instruction."""
        super().descr(buf)
        buf[-1] = buf[-1].replace("load ", "load volatile ", 1)


class Plane:
    """Pixels of an array (N, C, H, W) or (N, H, W, 2), as addresses."""

    def __init__(self, context, builder, kind, value):
        array = context.make_array(kind)(context, builder, value)
        self.builder, self.kind = builder, context.get_value_type(kind.dtype)
        self.bytes = kind.dtype.bitwidth // 8
        self.start = builder.ptrtoint(array.data, I64)
        self.shape = cgutils.unpack_tuple(builder, array.shape)

    def at(self, *index):
        """Address of an element."""
        place = index[0]
        for side, i in zip(self.shape[1:], index[1:], strict=True):
            place = self.builder.add(self.builder.mul(place, side), i)
        return self.builder.add(self.start, self.builder.mul(place, I64(self.bytes)))
