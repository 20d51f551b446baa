"""Program: run :mod:`everything` on arrays next to memory that must not be accessed.

Numba's bounds check sees the indices of arrays, not the addresses that the vector code computes. So
every input and result is placed directly after a page without access rights, then directly before
one. A read or a write beyond the array then kills the process. Linux and macOS have such pages.
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
    """Forbid access to the page at an address."""
    if libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(PAGE), 0):
        raise OSError(ctypes.get_errno(), "mprotect")


def guarded(shape, dtype, at_end):
    """An array between two forbidden pages, next to the second one (``at_end``) or to the first."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    body = -(-size // PAGE) * PAGE
    region = mmap.mmap(-1, body + 2 * PAGE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(region))
    forbid(start)
    forbid(start + PAGE + body)
    offset = PAGE + (body - size if at_end else 0)
    return np.frombuffer(region, dtype, int(np.prod(shape)), offset).reshape(shape)


def main():
    """Make all calls without guards, then with a guard at either side; results must be equal."""
    plain_empty = np.empty
    for name, call in calls(sys.argv[1:]):
        expected = call()  # compiles, with normal allocations
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
            np.empty = empty  # guards the results, too
            try:
                found = call(like=like)
            finally:
                np.empty = plain_empty
            for ours, other in zip(found, expected, strict=True):
                np.testing.assert_array_equal(ours, other)
    print("no access beyond an array")


def calls(words):
    """The calls: everything, or an overrun that must kill the process."""
    if words == ["overrun"]:
        yield "overrun", overrun
        return
    yield "last pixel first", last_pixel
    yield from everything.samplers("float32")
    yield from everything.samplers("float64", everything.SERIAL)
    yield from everything.kinds()
    yield from everything.kinds(everything.FEW, everything.THIN)
    yield from everything.derived()
    yield from everything.derived(shapes=everything.THIN)
    yield from everything.pictures()
    yield from everything.layers()
    yield from everything.registrations()


def last_pixel(like=np.array):
    """Rotate pixels of three channels by 180 degrees, so that a block ends before the last."""
    theta = np.array([[[-1, 0, -0.6 / 64], [0, -1, -0.6 / 40]]] * 2)  # 0.3 pixels off
    return [
        stn.warp_affine(like(np.ones((2, 40, 64, 3), dtype)), theta, mode="nearest", layout="NHWC",
                        padding_mode="border")
        for dtype in (np.uint8, np.uint16, np.float32)
    ]  # fmt: skip


def overrun(like=np.array):
    """Read the element after the last."""
    array = like(np.zeros(7))
    ctypes.c_double.from_address(array.ctypes.data + array.nbytes).value  # noqa: B018
    return ()


if __name__ == "__main__":
    main()
