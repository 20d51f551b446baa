"""Arrays on the CPU: what the kernels take, where results go. device.py has the same names."""

import numpy as np


def taken(name, array, stream=None):
    """``array`` as the kernels take it: NumPy's, contiguous, in the machine's byte order.

    Other libraries' arrays on the CPU are looked at where they are, through ``__array__``, the
    buffer protocol or DLPack. There are no streams here.
    """
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError(f"{name}: expected an array without a mask, which would be lost")
    try:
        if hasattr(array, "__dlpack__") and not hasattr(array, "__array__"):
            array = np.from_dlpack(array)
        array = np.asarray(array)
    except Exception as error:  # whatever the array's own library has to say
        raise TypeError(
            f"{name}: expected an array, got {type(array).__name__}: {error}"
        ) from error
    if array.dtype.byteorder not in "=|":
        array = array.astype(array.dtype.newbyteorder("="))
    return np.ascontiguousarray(array) if array.ndim else array


def empty(shape, dtype, like):
    """An array to be filled."""
    return np.empty(shape, dtype)


def output(shape, images, coords, out, stream=None):
    """The array that the samples are written to: ``out`` itself, or a new one.

    A strided ``out`` gets its samples from :func:`returned`.
    """
    if out is None:
        return np.empty(shape, images.dtype)
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out: expected a NumPy array, as the inputs are, got {type(out).__name__}")
    if out.shape != shape or out.dtype != images.dtype:
        raise ValueError(
            f"out: expected shape {shape} and dtype {images.dtype}, got {out.shape} and {out.dtype}"
        )
    if not out.flags.writeable:
        raise ValueError("out: expected an array that can be written to, got a read-only one")
    if np.may_share_memory(out, images) or np.may_share_memory(out, coords):
        raise ValueError("out: expected memory of its own, got memory shared with an input")
    return out if out.flags.c_contiguous else np.empty(shape, images.dtype)


def returned(result, out=None):
    """What the caller gets: ``result``, or ``out`` holding it."""
    if out is None or out is result:
        return result
    out[...] = result
    return out


def converted(array, dtype):
    """``array``, of this dtype."""
    return array.astype(dtype, copy=False)


def clear(array):
    """Fill an array with zeros."""
    array[...] = 0


def some_of(array, chosen):
    """Some of a batch, as a slice says."""
    return array[chosen]


def add(array, other):
    """Add another array to an array."""
    array += other
