"""NumPy arrays: inputs and results of the CPU kernels.

:mod:`numba_stn.kernels.cuda.device` has the same names for arrays on a GPU.
"""

import numpy as np


def kernel_array(name, array, stream=None):
    """``array`` as the kernels expect it: a contiguous NumPy array in the machine's byte order.

    Arrays of other libraries are viewed without a copy, through ``__array__``, the buffer protocol
    or DLPack. The CPU has no streams.
    """
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError(
            f"{name}: expected an array without a mask, got a masked array (its mask would be lost)"
        )
    try:
        if hasattr(array, "__dlpack__") and not hasattr(array, "__array__"):
            array = np.from_dlpack(array)
        array = np.asarray(array)
    except Exception as error:  # the array's library may raise any error
        raise TypeError(
            f"{name}: expected an array, got {type(array).__name__}: {error}"
        ) from error
    if array.dtype.byteorder not in "=|":
        array = array.astype(array.dtype.newbyteorder("="))
    if not array.flags.aligned:
        array = array.copy()
    return np.ascontiguousarray(array) if array.ndim else array


def empty(shape, dtype, like):
    """A new array, not yet filled."""
    return np.empty(shape, dtype)


def output(shape, images, coords, out, stream=None):
    """The array that the samples are written to: the memory of ``out``, or a new array.

    An ``out`` that no kernel can write to gets its samples from :func:`returned`: one with strides,
    or in another byte order.
    """
    if out is None:
        return np.empty(shape, images.dtype)
    if type(out) is not np.ndarray:
        if not isinstance(out, np.ndarray):
            kind = type(out).__name__
            raise TypeError(f"out: expected a NumPy array, as the inputs are, got {kind}")
        if isinstance(out, np.ma.MaskedArray):
            raise TypeError("out: expected an array without a mask, got a masked array")
    fits = out.dtype == images.dtype or out.dtype.newbyteorder("=") == images.dtype
    if out.shape != shape or not fits:
        raise ValueError(
            f"out: expected shape {shape} and dtype {images.dtype}, got {out.shape} and {out.dtype}"
        )
    if not out.flags.writeable:
        raise ValueError("out: expected an array that can be written to, got a read-only one")
    if _overlap(out, images) or _overlap(out, coords):
        raise ValueError("out: expected memory of its own, got memory shared with an input")
    usable = out.flags.carray and out.dtype.isnative
    return np.asarray(out) if usable else np.empty(shape, images.dtype)


def _overlap(array, other):
    """Whether two arrays may share memory; two that own theirs do not."""
    if array is not other and array.flags.owndata and other.flags.owndata:
        return False
    return np.may_share_memory(array, other)


def returned(result, out=None):
    """The result for the caller: ``result``, or ``out`` with the result in it."""
    if out is None or out is result:
        return result
    if not np.may_share_memory(out, result):
        out[...] = result
    return out


def converted(array, dtype):
    """``array``, converted to this dtype."""
    return array if array.dtype == dtype else array.astype(dtype)


def clear(array):
    """Fill an array with zeros."""
    array[...] = 0


def batch_slice(array, chosen):
    """The items of a batch that a slice chooses: a view of the same memory."""
    return array[chosen]


def add(array, other):
    """Add another array to ``array``, in place."""
    array += other


def ignore_float_errors():
    """Context without NumPy's warnings: gradients need not be finite, and kernels do not warn."""
    return np.errstate(invalid="ignore", over="ignore")
