"""One image at once, and in patches: the same bits. ``python tests/large_images.py`` tries all."""

import itertools
import sys

import numpy as np

import numba_stn as stn

RNG = np.random.default_rng(0)
SIDES, SIZES = (150, 170), (140, 181)  # larger than what is framed, and not multiples of a block
MAPS = {
    "affine": [[0.8, 0.3, -20], [-0.25, 0.9, 30]],
    "projective": [[0.8, 0.3, -20], [-0.25, 0.9, 30], [0.0005, 0.0003, 1]],
    "scaled": [[0.7, 0, -30.3], [0, -1.3, 180.2]],
    "horizon": [[0.8, 0.3, -20], [-0.25, 0.9, 30], [0.012, -0.003, -1]],
    "far": [[0.8, 0.3, -2000], [-0.25, 0.9, 3000]],
    "moved": [[1, 0, -13], [0, 1, 20]],
}
MODES = ("bilinear", "nearest", "bicubic", "catmull-rom", "lanczos4")
PADDINGS = ("zeros", "border", "reflection", "wrap", "mirror", "fill")
CHUNKS = (47, 60)


def image(dtype="f4", channels=(2,), sides=SIDES):
    """An image of random numbers."""
    numbers = RNG.random((*sides, *channels))
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return numbers > 0.5
    if dtype.kind == "c":
        return (numbers + 1j * numbers[::-1]).astype(dtype)
    return (numbers * 200 if dtype.kind in "iu" else numbers).astype(dtype)


def lazy(array, chunks=CHUNKS):
    """A Dask array of an image, chunked in y and x."""
    import dask.array as da

    return da.from_array(array, chunks=(*chunks, *array.shape[2:]))


def both(function, array, chunks=CHUNKS):
    """A function's result for an image, and for the same as a Dask array."""
    whole, found = function(array), function(lazy(array, chunks))
    assert (found.shape, found.dtype) == (whole.shape, whole.dtype)
    return whole, found.compute(scheduler="synchronous")


def check_warp(mode, padding, name, dtype="f4", channels=(2,)):
    """Compare a warp."""
    whole, found = both(
        lambda each: stn.warp_image(each, MAPS[name], SIZES, mode=mode, padding_mode=padding,
                                    fill=3 if dtype != "?" else 1), image(dtype, channels)
    )  # fmt: skip
    np.testing.assert_array_equal(found, whole, f"{mode} {padding} {name} {dtype} {channels}")


def main():
    """Try every mode, padding and map, and every dtype."""
    for mode, padding in itertools.product(MODES, PADDINGS):
        for name in MAPS:
            check_warp(mode, padding, name)
        print(mode, padding, flush=True)
    for dtype in ("?", "u1", "i2", "i4", "f2", "f8", "c8"):
        for channels in ((), (1,), (3,), (4,), (6,)):
            for name in MAPS:
                check_warp("bilinear", "zeros", name, dtype, channels)
                check_warp("nearest", "wrap", name, dtype, channels)
        print(dtype, flush=True)


if __name__ == "__main__":
    sys.exit(main())
