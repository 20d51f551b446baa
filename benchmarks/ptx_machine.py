"""A machine for PTX: it runs kernels as they were compiled, instruction by instruction, on the CPU.

Numba's simulator runs the Python source of a kernel; this runs what the compiler made of it, with
its types. It counts instructions, and finds addresses outside the arrays. It knows the instructions
that the kernels of this package consist of, and refuses others. Sums of products are rounded once,
as on a GPU, except that a few ``fma`` of float32 are off by one in the last digit.
"""

import ctypes
import functools
import math
import re
import struct
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

# Addresses of shared memory: a range that no array on the host has.
SHARED = 1 << 60

_C = {"f32": ctypes.c_float, "f64": ctypes.c_double, "u64": ctypes.c_uint64,
      "s64": ctypes.c_int64, "b64": ctypes.c_uint64, "u32": ctypes.c_uint32,
      "s32": ctypes.c_int32, "b32": ctypes.c_uint32, "u16": ctypes.c_uint16,
      "s16": ctypes.c_int16, "b16": ctypes.c_uint16, "u8": ctypes.c_uint8,
      "s8": ctypes.c_int8, "b8": ctypes.c_uint8}  # fmt: skip
_COMMA = re.compile(r",(?![^{]*\})")  # one that is not between braces
_LINE = re.compile(r"^(?:@(!?)(%p\d+) )?\s*([a-z][\w.:]*)\s*(.*);$")


class Instruction(NamedTuple):
    """An instruction, with a function that gives its result from its operands."""

    name: str
    parts: tuple[str, ...]  # of its name, between dots
    operands: tuple[str, ...]
    predicate: str
    negated: bool
    compute: Any


class Kernel:
    """A kernel in PTX.

    Parameters
    ----------
    text : str
        What ``compile_ptx`` gives.
    """

    def __init__(self, text: str) -> None:
        self.parameters = re.findall(r"\.param \.(\w+) (\w+)", text[: text.index("\n{")])
        self.shared, size = {}, 0
        for name, length in re.findall(r"\.shared \.align \d+ \.b8 (\w+)\[(\d+)\]", text):
            self.shared[name], size = SHARED + size, size + int(length) + -int(length) % 16
        self.shared_size = size
        self.code: list[Instruction] = []
        self.labels: dict[str, int] = {}
        for line in text[text.index("\n{") + 2 :].splitlines():
            line = line.strip()
            if line.endswith(":"):
                self.labels[line[:-1]] = len(self.code)
            elif found := _LINE.match(line):
                negated, predicate, name, operands = found.groups()
                parts = tuple(name.split("."))
                split = tuple(map(str.strip, _COMMA.split(operands))) if operands else ()
                compute = _compute(parts)
                self.code.append(
                    Instruction(name, parts, split, predicate or "", bool(negated), compute)
                )

    def launch(self, blocks: Sequence[int], threads: Sequence[int], args: Sequence[Any]) -> Counter:
        """Run all threads, and count the instructions by their names."""
        counts: Counter = Counter()
        with np.errstate(all="ignore"):
            for block in np.ndindex(*reversed(blocks)):
                self.block(tuple(reversed(block)), blocks, threads, args, counts)
        return counts

    def block(self, block, blocks, threads, args, counts) -> None:
        """Run the threads of a block; all that have not ended meet at each barrier."""
        shared = np.zeros(self.shared_size + 16, np.uint8)
        running = [
            self.thread(tuple(reversed(thread)), block, blocks, threads, args, counts, shared)
            for thread in np.ndindex(*reversed(threads))
        ]
        while running:
            running = [each for each in running if next(each, None) is not None]

    def thread(self, thread, block, blocks, threads, args, counts, shared=None) -> Iterator[bool]:
        """Run one thread; it yields at barriers."""
        if shared is None:
            shared = np.zeros(self.shared_size + 16, np.uint8)
        state = _State(self, args, shared, thread, block, blocks, threads)
        at, code = 0, self.code
        while True:
            it = code[at]
            at += 1
            counts[it.name] += 1
            if it.predicate and state.registers[it.predicate] == it.negated:
                continue
            kind = it.parts[0]
            if kind == "bra":
                at = self.labels[it.operands[0]]
            elif kind == "ret":
                return
            elif kind == "bar":
                yield True
            else:
                state.run(it)


def flattened(args: Sequence[Any]) -> list[Any]:
    """Arguments as Numba passes them: an array as seven numbers, a tuple as its items."""
    found: list[Any] = []
    for arg in args:
        if isinstance(arg, np.ndarray):
            data = arg.ctypes.data
            found += [0, 0, arg.size, arg.itemsize, data, arg.size, arg.itemsize]
        elif isinstance(arg, tuple):
            found += flattened(arg)
        else:
            found.append(arg)
    return found


class _State:
    """Registers and memory of a thread."""

    def __init__(self, kernel, args, shared, thread, block, blocks, threads):
        self.registers: dict[str, Any] = {}
        for axis, letter in enumerate("xyz"):
            for name, values in (("tid", thread), ("ctaid", block), ("ntid", threads),
                                 ("nctaid", blocks)):  # fmt: skip
                value = values[axis] if axis < len(values) else int(name.startswith("n"))
                self.registers[f"%{name}.{letter}"] = value
        values = flattened(args)
        assert len(values) == len(kernel.parameters), (len(values), len(kernel.parameters))
        self.parameters = {
            name: _cast(kind, value)
            for (kind, name), value in zip(kernel.parameters, values, strict=True)
        }
        self.names = kernel.shared
        self.shared = shared
        self.ranges = [
            (each.ctypes.data, each.ctypes.data + each.nbytes)
            for each in args if isinstance(each, np.ndarray)
        ]  # fmt: skip

    def run(self, it: Instruction) -> None:
        kind, kinds = it.parts[0], it.parts[1:]
        target, sources = it.operands[0], it.operands[1:]
        if "{" in "".join(it.operands):
            self.split_or_join(target, sources[0], int(kinds[-1][1:]))
        elif kind == "ld":
            self.registers[target] = self.load(kinds, sources[0])
        elif kind == "st":
            self.cell(kinds, target).value = self.value(sources[0], kinds[-1])
        elif kind == "atom":
            cell, value = self.cell(kinds, sources[0]), self.value(sources[1], kinds[-1])
            self.registers[target] = cell.value
            cell.value = cell.value + value if "add" in kinds else max(cell.value, value)
        else:
            values = [self.value(each, it.compute.source) for each in sources]
            self.registers[target] = it.compute(*values)

    def split_or_join(self, target: str, source: str, bits: int) -> None:
        """Run a ``mov`` between a register and several of fewer bits, the lowest first."""
        parts = [each.strip() for each in (target + source).split("{")[1].split("}")[0].split(",")]
        each = bits // len(parts)
        if target.startswith("{"):
            value = self.value(source, f"b{bits}")
            for number, part in enumerate(parts):
                self.registers[part] = _cast(f"b{each}", value >> (number * each))
        else:
            values = [self.value(part, f"b{each}") << (k * each) for k, part in enumerate(parts)]
            self.registers[target] = sum(values)

    def value(self, name: str, kind: str) -> Any:
        """The value of an operand, read as this type."""
        if name in self.registers:
            value = self.registers[name]
            if name.startswith("%f") and isinstance(value, int):  # bits that were moved there
                value = (np.uint64 if name[2] == "d" else np.uint32)(value)
                value = value.view(np.float64 if name[2] == "d" else np.float32)
            return _cast(kind, value)
        if name.startswith("0f"):
            return np.float32(struct.unpack(">f", bytes.fromhex(name[2:]))[0])
        if name.startswith("0d"):
            return np.float64(struct.unpack(">d", bytes.fromhex(name[2:]))[0])
        if name in self.names:
            return self.names[name]
        return _cast(kind, int(name, 0))

    def load(self, kinds, address):
        if kinds[0] == "param":
            return self.parameters[address.strip("[]")]
        return _cast(kinds[-1], self.cell(kinds, address).value)

    def cell(self, kinds, address):
        """The memory at an address, which must be in an array."""
        base, _, offset = address.strip("[]").partition("+")
        at = int(self.value(base, "u64")) + int(offset or 0)
        kind = _C[kinds[-1]]
        size = ctypes.sizeof(kind)
        if at >= SHARED:
            if at + size - SHARED > len(self.shared):
                raise IndexError(f"shared memory: byte {at - SHARED}")
            return kind.from_address(self.shared.ctypes.data + at - SHARED)
        if not any(start <= at and at + size <= end for start, end in self.ranges):
            raise IndexError(f"{'.'.join(kinds)} outside all arrays")
        return kind.from_address(at)


# --- Numbers and instructions ---------------------------------------------------------------------


def _cast(kind: str, value: Any) -> Any:
    """A value as a type: a float, or an integer of some bits with or without a sign."""
    return _casts(kind)(value)


@functools.cache
def _casts(kind):
    if kind in ("pred", "f32", "f64"):
        return {"pred": bool, "f32": np.float32, "f64": np.float64}[kind]
    span = 1 << int(kind[1:])
    mask, half = span - 1, span >> 1 if kind[0] == "s" else span

    def cast(value):
        if isinstance(value, np.floating):  # the same bits
            value = value.view(np.uint32 if value.itemsize == 4 else np.uint64)
        value = int(value) & mask
        return value if value < half else value - span

    return cast


def _truncated(a, b):
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def _minimum(a, b):
    return b if a != a else a if b != b else min(a, b)


def _maximum(a, b):
    return b if a != a else a if b != b else max(a, b)


_PLAIN: dict[str, Callable] = {
    "mov": lambda a: a, "cvta": lambda a: a, "neg": lambda a: -a, "abs": abs, "not": lambda a: ~a,
    "add": lambda a, b: a + b, "sub": lambda a, b: a - b, "mul": lambda a, b: a * b,
    "and": lambda a, b: a & b, "or": lambda a, b: a | b, "xor": lambda a, b: a ^ b,
    "min": _minimum, "max": _maximum, "rem": math.fmod,
    "rcp": lambda a: type(a)(1) / a, "sqrt": np.sqrt, "ex2": np.exp2, "lg2": np.log2,
    "selp": lambda a, b, p: a if p else b,
}  # fmt: skip
_COMPARE: dict[str, Callable] = {
    "eq": lambda a, b: a == b, "ne": lambda a, b: a != b and a == a and b == b,
    "lt": lambda a, b: a < b, "le": lambda a, b: a <= b, "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
    # With "u", a comparison with NaN is true; that of unsigned integers has other names.
    "equ": lambda a, b: not (a < b or a > b), "neu": lambda a, b: a != b,
    "ltu": lambda a, b: not a >= b, "leu": lambda a, b: not a > b, "gtu": lambda a, b: not a <= b,
    "geu": lambda a, b: not a < b, "num": lambda a, b: a == a and b == b,
    "nan": lambda a, b: a != a or b != b,
}  # fmt: skip
_ROUND: dict[str, Callable] = {
    "rmi": np.floor, "rpi": np.ceil, "rzi": np.trunc, "rni": np.rint,
}  # fmt: skip


def _compute(parts):
    """The function of an instruction; its attribute ``source`` is the type of its operands."""
    kind, kinds = parts[0], parts[1:]
    if kind in ("ld", "st", "atom", "bra", "ret", "bar"):
        return None
    result = source = kinds[-1]
    operation = _PLAIN.get(kind)
    if kind == "setp":
        operation, result = _COMPARE[kinds[0]], "pred"
    elif kind == "not" and source == "pred":
        operation = lambda a: not a  # noqa: E731
    elif kind == "cvt":
        result, source = kinds[-2:]
        operation = _conversion(kinds, result, source)
    elif kind in ("shl", "shr"):
        bits = int(source[1:])
        operation = (
            (lambda a, b: a << min(b, bits)) if kind == "shl" else (lambda a, b: a >> min(b, bits))
        )
    elif kind == "div" and source[0] == "f":
        operation = lambda a, b: a / b  # noqa: E731
    elif kind == "div":
        operation = _truncated
    elif kind == "rem":
        operation = lambda a, b: a - b * _truncated(a, b)  # noqa: E731
    elif kind == "mul" and "wide" in kinds:
        result = source[0] + str(2 * int(source[1:]))
    elif kind == "mul" and "hi" in kinds:
        bits = int(source[1:])
        operation = lambda a, b: (a * b) >> bits  # noqa: E731
    elif kind == "mad":
        operation = lambda a, b, c: a * b + c  # noqa: E731
        result = source[0] + str(2 * int(source[1:])) if "wide" in kinds else source
    elif kind == "fma":
        operation = lambda a, b, c: np.float64(a) * np.float64(b) + np.float64(c)  # noqa: E731
    if operation is None:
        raise NotImplementedError(f"PTX: {'.'.join(parts)}")

    cast = _casts(result)

    def compute(*values):
        return cast(operation(*values))

    compute.source = source
    return compute


def _conversion(kinds, result, source):
    """The function of ``cvt``: floats to integers saturate, and NaN is 0."""
    rounding = next((_ROUND[each] for each in kinds if each in _ROUND), None)
    if source[0] == "f" and result[0] != "f":
        bits, signed = int(result[1:]), result[0] == "s"
        least, most = (
            (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
        )
        return lambda a: 0 if a != a else int(max(least, min(most, float(rounding(a)))))
    return rounding or (lambda a: a)
