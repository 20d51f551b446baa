"""Intel's Integrated Performance Primitives (IPP) as a peer: bilinear warps, called by ctypes.

``pip install ipp`` gets the library, for x86 processors only. A warp is prepared once, and only its
execution is timed. Each thread warps a region of the output, since the functions of IPP run on one
thread.
"""

import contextlib
import ctypes
import os
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from itertools import pairwise
from pathlib import Path

import numpy as np

from .rows import MissingError

# Values of IPP's enumerations.
_DATA_TYPES = {np.dtype(np.uint8): 1, np.dtype(np.float32): 13}
_NAMES = {np.dtype(np.uint8): "8u", np.dtype(np.float32): "32f"}
_LINEAR, _BACKWARD, _CONSTANT_BORDER = 2, 1, 6


class _Size(ctypes.Structure):
    """Width and height; or x and y."""

    _fields_ = [("width", ctypes.c_int), ("height", ctypes.c_int)]


@cache
def _library():
    """IPP's image functions for this processor."""
    folder = Path(sysconfig.get_path("data")) / "lib"
    # IPP's own choice of a version ends the process if it does not find its files.
    with contextlib.suppress(OSError):
        flags = Path("/proc/cpuinfo").read_text()
        version = "k0" if "avx512f" in flags else "l9" if "avx2" in flags else "y8"
        ctypes.CDLL(str(folder / "libippcore.so.12"), mode=ctypes.RTLD_GLOBAL)
        return ctypes.CDLL(str(folder / f"libippi{version}.so.12"))
    raise MissingError("ipp is not installed")


def _check(status):
    if status < 0:  # a positive status is a warning
        raise MissingError(f"IPP returned the status {status}")


def warp(image, matrix):
    """Prepare the warp of an image (H, W, C) by a matrix (2, 3) from output to input pixels.

    Returns ``run()``, which returns the warped image.
    """
    library, channels = _library(), image.shape[2]
    if image.dtype not in _NAMES or channels not in (1, 3, 4):
        raise MissingError("IPP warps uint8 and float32 images of 1, 3 or 4 channels")
    function = getattr(library, f"ippiWarpAffineLinear_{_NAMES[image.dtype]}_C{channels}R")
    image, out = np.ascontiguousarray(image), np.empty_like(image)
    spec, size = _prepare(library, image, matrix), _Size(*image.shape[1::-1])
    step, source = image.strides[0], image.ctypes.data_as(ctypes.c_void_p)  # this keeps the image
    regions = np.linspace(0, size.height, _threads() + 1).astype(int)
    calls = []
    for top, bottom in pairwise(regions):
        region, count = _Size(size.width, bottom - top), ctypes.c_int()
        _check(library.ippiWarpGetBufferSize(spec, region, ctypes.byref(count)))
        buffer = ctypes.create_string_buffer(max(count.value, 1) + 64)
        target = ctypes.c_void_p(out.ctypes.data + int(top) * step)
        calls.append(partial(
            function, source, step, target, step, _Size(0, int(top)), region, spec, buffer
        ))  # fmt: skip

    def run():
        for status in _pool().map(lambda call: call(), calls):
            _check(status)
        return out

    return run


def _prepare(library, image, matrix):
    """IPP's description of a warp."""
    coefficients = (ctypes.c_double * 6)(*np.asarray(matrix, float).ravel())
    kind, size = _DATA_TYPES[image.dtype], _Size(*image.shape[1::-1])
    needed, first = ctypes.c_int(), ctypes.c_int()
    _check(library.ippiWarpAffineGetSize(
        size, size, kind, coefficients, _LINEAR, _BACKWARD, _CONSTANT_BORDER,
        ctypes.byref(needed), ctypes.byref(first),
    ))  # fmt: skip
    spec = ctypes.create_string_buffer(needed.value + 64)
    border = (ctypes.c_double * 4)()
    _check(library.ippiWarpAffineLinearInit(
        size, size, kind, coefficients, _BACKWARD, image.shape[2], _CONSTANT_BORDER, border, 0, spec
    ))  # fmt: skip
    return spec


@cache
def _pool():
    return ThreadPoolExecutor(_threads())


def _threads():
    return os.cpu_count() or 1
