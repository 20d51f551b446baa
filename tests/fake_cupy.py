"""A stand-in for CuPy, for machines without a GPU: it wraps NumPy's arrays.

It has the part of CuPy that this project uses, and refuses what CuPy refuses: implicit conversion
to NumPy arrays, operations with them, unknown functions and keywords, methods of ufuncs. As in
CuPy, reductions give arrays of one number, results of ufuncs are C-contiguous whatever their inputs
are, and an index out of range wraps around. An assignment by indices that repeat, whose result is
undefined, is an error here. Behaviour that is not listed here was not checked against CuPy's
documentation.
"""

import contextlib
import operator
from types import ModuleType, SimpleNamespace

import numpy as np

UFUNCS = {
    "add", "subtract", "multiply", "true_divide", "divide", "power", "negative", "matmul",
    "maximum", "minimum", "sqrt", "exp", "log", "log1p", "absolute", "sin", "cos", "tanh",
    "isnan", "isfinite",
    "equal", "not_equal", "less", "less_equal", "greater", "greater_equal",
    "bitwise_and", "bitwise_or", "bitwise_xor", "invert", "right_shift",
}  # fmt: skip

# How often the host waited for the device, and how often an array was copied to it.
counts = {"waits": 0, "uploads": 0}


def inside(x):
    """The NumPy array or scalar inside an argument of CuPy's functions."""
    if isinstance(x, ndarray):
        return x._data
    if type(x) in (bool, int, float) or isinstance(x, (np.number, np.bool_)):
        return x
    raise TypeError(f"Unsupported type {type(x)}")


def outside(data):
    return ndarray(np.asarray(data, order="C"))


class ndarray:  # noqa: N801
    """An array on a device that does not exist."""

    __module__ = "cupy"
    __array_priority__ = 100
    __hash__ = None

    def __init__(self, data):
        assert type(data) is np.ndarray
        assert data.dtype.kind in "biuf"
        self._data = data

    # --- Protocols ---

    def __array__(self, dtype=None, copy=None):
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        if method != "__call__" or ufunc.__name__ not in UFUNCS or options:
            return NotImplemented
        return outside(ufunc(*map(inside, inputs)))

    def __array_function__(self, function, types, args, options):
        own = FUNCTIONS.get(function.__name__)
        if own is None or not set(types) <= {ndarray, np.ndarray}:
            return NotImplemented
        return own(*args, **options)

    @property
    def __cuda_array_interface__(self):
        return self._data.__array_interface__ | {"version": 3}

    # --- Attributes ---

    shape = property(lambda self: self._data.shape)
    strides = property(lambda self: self._data.strides)
    dtype = property(lambda self: self._data.dtype)
    ndim = property(lambda self: self._data.ndim)
    size = property(lambda self: self._data.size)
    nbytes = property(lambda self: self._data.nbytes)
    device = property(lambda self: Device())

    def __len__(self):
        return len(self._data)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    # --- To the host ---

    def get(self):
        counts["waits"] += 1
        return self._data.copy()

    def __float__(self):
        return float(self.get())

    def __int__(self):
        return int(self.get())

    def __bool__(self):
        return bool(self.get())

    # --- Elements ---

    def _index(self, index):
        parts = index if isinstance(index, tuple) else (index,)
        if not any(isinstance(part, ndarray) for part in parts):
            assert all(type(p) in (int, slice, type(None), type(Ellipsis)) for p in parts), index
            return index
        assert all(isinstance(part, ndarray) and part.dtype.kind in "iu" for part in parts)
        return tuple(p._data % side for p, side in zip(parts, self.shape, strict=False))

    def __getitem__(self, index):
        return ndarray(np.asarray(self._data[self._index(index)]))

    def __setitem__(self, index, value):
        index = self._index(index)
        if isinstance(index, tuple) and index and isinstance(index[0], np.ndarray):
            elements = list(zip(*(part.tolist() for part in index), strict=True))
            assert len(set(elements)) == len(elements), "the last one written is undefined"
        self._data[index] = inside(value)

    # --- Methods ---

    T = property(lambda self: ndarray(self._data.T))

    def reshape(self, *shape):
        return ndarray(self._data.reshape(*shape))

    def transpose(self, *axes):
        return ndarray(self._data.transpose(*axes))

    def swapaxes(self, one, other):
        return ndarray(self._data.swapaxes(one, other))

    def copy(self):
        return ndarray(self._data.copy(order="C"))

    def astype(self, dtype, copy=True):
        return ndarray(self._data.astype(dtype, copy=copy))

    def repeat(self, repeats, axis=None):
        assert type(repeats) is int
        return ndarray(self._data.repeat(repeats, axis))

    def sum(self, axis=None, dtype=None, keepdims=False):
        return outside(self._data.sum(axis, dtype, keepdims=keepdims))

    def mean(self, axis=None, dtype=None, keepdims=False):
        return outside(self._data.mean(axis, dtype, keepdims=keepdims))

    def var(self, axis=None, dtype=None, ddof=0, keepdims=False):
        return outside(self._data.var(axis, dtype, ddof=ddof, keepdims=keepdims))

    def max(self, axis=None, keepdims=False):
        return outside(self._data.max(axis, keepdims=keepdims))

    def min(self, axis=None, keepdims=False):
        return outside(self._data.min(axis, keepdims=keepdims))

    def argmax(self, axis=None):
        return outside(self._data.argmax(axis))


def _binary(function):
    return lambda self, other: outside(function(self._data, inside(other)))


def _reflected(function):
    return lambda self, other: outside(function(inside(other), self._data))


def _in_place(function):
    def method(self, other):
        function(self._data, inside(other), out=self._data, casting="same_kind")
        return self

    return method


for _name, _function in {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "truediv": np.true_divide,
    "pow": np.power, "matmul": np.matmul, "and": np.bitwise_and, "or": np.bitwise_or,
    "xor": np.bitwise_xor, "rshift": np.right_shift,
}.items():  # fmt: skip
    setattr(ndarray, f"__{_name}__", _binary(_function))
    setattr(ndarray, f"__r{_name}__", _reflected(_function))
    if _name != "matmul":
        setattr(ndarray, f"__i{_name}__", _in_place(_function))
for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    setattr(ndarray, f"__{_name}__", _binary(getattr(operator, _name)))
ndarray.__neg__ = lambda self: outside(-self._data)
ndarray.__invert__ = lambda self: outside(~self._data)


# --- Functions ------------------------------------------------------------------------------------


def asarray(a, dtype=None):
    if isinstance(a, ndarray):
        return a if dtype is None else a.astype(dtype, copy=False)
    counts["uploads"] += 1
    return ndarray(np.array(a, dtype, order="C"))


def ascontiguousarray(a, dtype=None):
    a = asarray(a, dtype)
    return a if a._data.flags.c_contiguous else a.copy()


def empty(shape, dtype=float):
    return ndarray(np.full(shape, 7, dtype))  # any value: the memory is uninitialised


def zeros(shape, dtype=float):
    return ndarray(np.zeros(shape, dtype))


def zeros_like(a, dtype=None):
    return ndarray(np.zeros_like(inside(a), dtype, order="C"))


def arange(stop, dtype=None):
    return ndarray(np.arange(stop, dtype=dtype))


def concatenate(tup, axis=0):
    return outside(np.concatenate(_all_own(tup), axis))


def stack(tup, axis=0):
    return outside(np.stack(_all_own(tup), axis))


def split(ary, indices_or_sections, axis=0):
    assert type(indices_or_sections) is list
    return [ndarray(part) for part in np.split(ary._data, indices_or_sections, axis)]


def where(condition, x, y):
    return outside(np.where(condition._data, inside(x), inside(y)))


def as_strided(x, shape=None, strides=None):
    view = np.lib.stride_tricks.as_strided(x._data, shape, strides)
    if view.size:
        reach = sum((side - 1) * stride for side, stride in zip(shape, strides, strict=True))
        own = sum((side - 1) * stride for side, stride in zip(x.shape, x.strides, strict=True))
        assert 0 <= reach <= own, "reads outside the array"
    return ndarray(view)


def _all_own(arrays):
    for array in arrays:
        if not isinstance(array, ndarray):
            raise TypeError(f"Unsupported type {type(array)}")
    return [array._data for array in arrays]


def inv(a):
    return outside(np.linalg.inv(a._data))  # CuPy's own does not report a singular matrix


FUNCTIONS = {
    function.__name__: function for function in (zeros_like, concatenate, stack, split, where, inv)
}


# --- The module -----------------------------------------------------------------------------------


class Device(contextlib.nullcontext):
    id = 0


def module():
    """The module that ``import cupy`` gives."""
    cupy = ModuleType("cupy")
    own = (ndarray, asarray, ascontiguousarray, empty, zeros, arange, *FUNCTIONS.values())
    for each in own:
        setattr(cupy, each.__name__, each)
    cupy.__version__ = "14.0"
    cupy.lib = SimpleNamespace(stride_tricks=SimpleNamespace(as_strided=as_strided))
    runtime = SimpleNamespace(
        getDevice=lambda: 0, getDeviceProperties=lambda number: {"name": b"A stand-in"}
    )
    cupy.cuda = SimpleNamespace(
        is_available=lambda: True, runtime=runtime,
        get_current_stream=lambda: SimpleNamespace(ptr=0),
    )  # fmt: skip
    return cupy
