"""Run :mod:`everything` on arrays that lie where memory begins or ends: a program of its own.

Numba's bounds check sees the indices of arrays, not the addresses that the vector code computes.
So every input and result is put right after a page that may not be touched, then right before
one: a read or a write beyond it kills the process. Linux and macOS have such pages.
"""

import ctypes
import mmap
import sys

import everything
import numpy as np

import numba_stn as stn

PAGE = mmap.PAGESIZE
libc = ctypes.CDLL(None, use_errno=True)


def forbid(address):
    """No access to the page at an address."""
    if libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(PAGE), 0):
        raise OSError(ctypes.get_errno(), "mprotect")


def guarded(shape, dtype, at_end):
    """An array between two forbidden pages, at the end of what lies between or at its start."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    body = -(-size // PAGE) * PAGE
    region = mmap.mmap(-1, body + 2 * PAGE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(region))
    forbid(start)
    forbid(start + PAGE + body)
    offset = PAGE + (body - size if at_end else 0)
    return np.frombuffer(region, dtype, int(np.prod(shape)), offset).reshape(shape)


def main():
    """All calls, plainly, then with guards at either side; the results must be the same."""
    plain_empty = np.empty
    for name, call in calls(sys.argv[1:]):
        expected = call()  # compiled now, while allocations are as usual
        for at_end in (True, False):

            def empty(shape, dtype=float, *, at_end=at_end, **kind):
                filled = np.prod(shape) and not kind
                return (
                    guarded(shape, dtype, at_end) if filled else plain_empty(shape, dtype, **kind)
                )

            def like(array, empty=empty):
                copy = empty(array.shape, array.dtype)
                copy[...] = array
                return copy

            print(name, "at the end" if at_end else "at the start", file=sys.stderr, flush=True)
            np.empty = empty  # what is allocated for results is guarded too
            try:
                found = call(like=like)
            finally:
                np.empty = plain_empty
            for ours, other in zip(found, expected, strict=True):
                np.testing.assert_array_equal(ours, other)
    print("nothing beyond")


def calls(words):
    """What to call: everything, or an overrun to see it die."""
    if words == ["overrun"]:
        yield "overrun", overrun
        return
    yield "the last pixel first", last_pixel
    yield from everything.samplers("float32")
    yield from everything.samplers("float64", everything.SERIAL)
    yield from everything.kinds()
    yield from everything.kinds(everything.FEW, everything.THIN)
    yield from everything.derived()
    yield from everything.derived(shapes=everything.THIN)
    yield from everything.pictures()
    yield from everything.layers()


def last_pixel(like=np.array):
    """Turn pixels of three numbers by 180 degrees, so that a block does not end with the last."""
    theta = np.array([[[-1, 0, -0.6 / 64], [0, -1, -0.6 / 40]]] * 2)  # 0.3 pixels beside it
    return [
        stn.warp_affine(like(np.ones((2, 40, 64, 3), dtype)), theta, mode="nearest", layout="NHWC",
                        padding_mode="border")
        for dtype in (np.uint8, np.uint16, np.float32)
    ]  # fmt: skip


def overrun(like=np.array):
    """Read one element too many."""
    array = like(np.zeros(7))
    ctypes.c_double.from_address(array.ctypes.data + array.nbytes).value  # noqa: B018
    return ()


if __name__ == "__main__":
    main()
