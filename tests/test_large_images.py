"""One large image in chunks of y and x: warped patch by patch, with the same bits as at once."""

import numpy as np
import pytest
from large_images import CHUNKS, MAPS, SIDES, SIZES, both, check_warp, image, lazy

import numba_stn as stn
from numba_stn.images import crops
from numba_stn.kernels.cpu.patches import period_of
from numba_stn.kernels.math import sampler_kind

da = pytest.importorskip("dask.array")

RNG = np.random.default_rng(0)


# --- The same bits --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize(("mode", "padding"), [("bilinear", "zeros"), ("bicubic", "reflection"),
                                               ("nearest", "wrap")])  # fmt: skip
def test_a_chunked_image_is_warped_with_the_same_bits(mode, padding, name):
    check_warp(mode, padding, name)


@pytest.mark.parametrize(("dtype", "channels"), [("u1", (3,)), ("?", ()), ("i8", (1,))])
def test_labels_and_photographs(dtype, channels):
    check_warp("nearest" if dtype != "u1" else "bilinear",
               "wrap" if dtype != "u1" else "zeros", "affine", dtype, channels)  # fmt: skip


@pytest.mark.parametrize("chunks", [(1, 1), (150, 170), (150, 7), (11, 170)])
def test_chunks_of_every_size(chunks):
    array = image("u1", (), (30, 40)) if chunks == (1, 1) else image("u1", ())
    whole, found = both(lambda each: stn.rotate(each, 30, expand=True, fill=7), array, chunks)
    np.testing.assert_array_equal(found, whole)


@pytest.mark.parametrize("sides", [(1, 1), (1, 40), (3, 2), (40, 1)])
@pytest.mark.parametrize("padding", ["zeros", "reflection"])
def test_images_smaller_than_the_taps(sides, padding, rows_only):
    """Framed images are reflected by other operations, which round otherwise."""
    with rows_only():
        whole, found = both(
            lambda each: stn.warp_image(each, MAPS["affine"], (40, 50), mode="bicubic",
                                        padding_mode=padding), image("f4", (2,), sides), (2, 3)
        )  # fmt: skip
    if sides[1] > 1:
        np.testing.assert_array_equal(found, whole)
    else:  # a single column is sampled pixel by pixel: the last positions of a row are rounded so
        np.testing.assert_allclose(found, whole, atol=2e-6)


FUNCTIONS = {
    "rotate": lambda each: stn.rotate(each, 90, expand=True),
    "means": lambda each: stn.rotate(each, 20, zoom=0.3, antialias=True, expand=True),
    "many means": lambda each: stn.rotate(each, 20, zoom=0.01, antialias=True),
    "resize": lambda each: stn.resize(each, (300, 55)),
    "half": lambda each: stn.resize(each, (75, 85)),
    "same": lambda each: stn.resize(each, SIDES),
    "labels": lambda each: stn.resize(each, (75, 85), mode="nearest"),
    "area": lambda each: stn.resize(each, (40, 61), antialias="area"),
    "lanczos": lambda each: stn.resize(each, (40, 300), antialias="lanczos3"),
    "crop": lambda each: stn.crop_and_resize(each, (10.5, 20, 80, 99), (33, 44)),
    "crops": lambda each: stn.crop_and_resize(each, [(10, 20, 80, 99), (0, 0, 170, 150)], (33, 44)),
    "filtered crops": lambda each: stn.crop_and_resize(
        each, [(10, 20, 80, 99), (-9, 0, 170, 150)], (13, 14), antialias=True
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_all_functions_of_one_image(name):
    whole, found = both(FUNCTIONS[name], image("u1", (3,)))
    np.testing.assert_array_equal(found, whole)


def test_a_matrix_and_alpha():
    array = image("u1", (4,))
    (whole, matrix), (found, same) = (
        stn.rotate(each, 10, alpha=True, return_matrix=True, fill=(9, 9, 9, 40))
        for each in (array, lazy(array))
    )
    np.testing.assert_array_equal(found.compute(scheduler="synchronous"), whole)
    np.testing.assert_array_equal(same, matrix)


def test_means_of_folded_images():
    """An image that is reduced first, and then reflected."""
    whole, found = both(
        lambda each: stn.rotate(each, 20, zoom=0.02, antialias=True, padding_mode="reflection"),
        image("f4"),
    )
    np.testing.assert_array_equal(found, whole)


@pytest.mark.parametrize("padding", ["border", "mirror", "wrap"])
def test_splines_differ_by_rounding(padding):
    """The coefficients of a crop are summed from 48 pixels more than it has, on each side.

    Positions are counted from the crop, and rounded so: by 1e-13 at 300 pixels.
    """
    array = image("f8", (), (300, 310))
    whole, found = both(
        lambda each: stn.warp_image(each, MAPS["affine"], mode="spline3", padding_mode=padding),
        array, (60, 50),
    )  # fmt: skip
    assert np.abs(found - whole).max() < 5e-13


# --- Memory ---------------------------------------------------------------------------------------


def counted(array, chunks, loaded):
    """A Dask array whose chunks are counted when they are computed."""

    def load(block, block_info=None):
        loaded.append(block_info[0]["chunk-location"])
        return block

    return lazy(array, chunks).map_blocks(load, dtype=array.dtype, meta=array[:0, :0])


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection", "mirror", "wrap", "fill"])
@pytest.mark.parametrize("name", ["affine", "projective", "scaled"])
def test_a_chunk_of_the_output_reads_few_of_the_image(name, padding):
    array, largest = image("u1", (), (300, 340)), 0
    for i, j in np.ndindex(10, 12):
        loaded = []
        given = counted(array, (30, 30), loaded)
        out = stn.warp_image(given, MAPS[name], mode="nearest", padding_mode=padding)
        assert not loaded
        graph = out.blocks[i, j].optimize() if hasattr(out, "optimize") else out.blocks[i, j]
        graph.compute(scheduler="synchronous")
        largest = max(largest, len(loaded))
    assert largest <= 16, "of 120 chunks"


def test_chunks_outside_the_image_read_nothing():
    loaded = []
    given = counted(image("u1", ()), CHUNKS, loaded)
    out = stn.warp_image(given, MAPS["far"], SIZES, fill=9).compute(scheduler="synchronous")
    assert not loaded
    assert (out == 9).all()


def test_what_lies_beyond_the_horizon_reads_nothing():
    """Where the divisor is negative, positions are as far away as where it is positive."""
    loaded = []
    array = image("u1", (), (300, 300))
    matrix = [[1, 0, 0], [0, 1, 0], [0, 0.01, -1]]  # the horizon is row 100
    out = stn.warp_image(counted(array, (50, 300), loaded), matrix, (300, 300))
    out.compute(scheduler="synchronous")
    assert 0 < len(loaded) <= 12


# --- What is read ---------------------------------------------------------------------------------


EXTENSIONS = {sampler_kind.WRAP: "wrap", sampler_kind.REFLECTION: "symmetric",
              sampler_kind.MIRROR: "reflect", sampler_kind.BORDER: "edge"}  # fmt: skip


@pytest.mark.parametrize("side", [1, 2, 5, 30, 41])
@pytest.mark.parametrize("padding", EXTENSIONS)
def test_the_pixels_of_every_range(side, padding):
    """Every tap of every position is in the crop, where the kernels look for it."""
    far = 6 * side + 20
    line = np.pad(np.arange(side), far, EXTENSIONS[padding])  # as NumPy continues an image
    for folded in (False, True):
        for low in np.arange(-3.0 * side, 3 * side, 1.7):
            for length in (0.0, 0.4, 3.1, 9.9, 2.5 * side):
                part = crops.crop_of(
                    (low, low + length), side, sampler_kind.BICUBIC, padding, folded
                )
                pixels = np.concatenate([np.arange(side)[slice(*crops.numpy_slice(each))]
                                         for each in part.slices])  # fmt: skip
                assert len(pixels) == part.length
                assert part.crop.start % 2 == 0
                inside = range(int(np.floor(low)) - 1, int(np.floor(low + length)) + 3)
                where = [crop_index(i, line[i + far], part, side, padding, folded) for i in inside]
                crop = np.pad(pixels, far, EXTENSIONS[padding])
                np.testing.assert_array_equal(crop[np.add(where, far)],
                                              line[np.add(inside, far)])  # fmt: skip


def crop_index(i, pixel, part, side, padding, folded):
    """Where a kernel looks for the pixel at position ``i``, counted from the crop's first."""
    start, cut, jump = part.crop
    if folded or padding == sampler_kind.BORDER:  # for the image's pixel
        return (pixel - jump if pixel >= cut else pixel) - start
    period = period_of(padding, side)
    position = i % period if period else 0
    return (position - period if position >= cut else position) - start


# --- Arguments ------------------------------------------------------------------------------------


BAD = {
    "out": (lambda each: stn.rotate(each, 5, out=np.zeros(SIDES)), TypeError, "out: expected None"),
    "batch": (lambda each: stn.rotate(each[None, None], 5), ValueError, "image: expected a known"),
    "mode": (lambda each: stn.rotate(each, 5, mode="no"), ValueError, "mode: expected one of"),
    "fill": (lambda each: stn.rotate(each, 5, fill=(1, 2, 3)), ValueError, "fill: expected 1 or"),
    "labels": (lambda each: stn.rotate(each.astype("i8"), 5), TypeError, "nearest"),
    "means": (
        lambda each: stn.rotate(each.astype("i8"), 5, antialias=True), TypeError, "nearest",
    ),
    "dates": (lambda each: stn.rotate(each.astype("M8[s]"), 5), TypeError, "image: expected one"),
    "empty": (lambda each: stn.rotate(each[:0], 5), ValueError, "at least one pixel"),
    "masked": (
        lambda each: stn.rotate(da.ma.masked_greater(each, 3), 5), TypeError, "of NumPy arrays",
    ),
    "padding": (
        lambda each: stn.resize(each, (5, 5), antialias=True, padding_mode="wrap"), ValueError,
        "padding_mode",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments_are_reported_before_anything_is_computed(name):
    function, kind, message = BAD[name]
    with pytest.raises(kind, match=message):
        function(lazy(image("u1", ())))


def test_sizes_are_those_of_the_image():
    found = stn.warp_image(lazy(image("u1", ())), MAPS["affine"], SIZES)
    assert found.chunks == ((47, 47, 46), (60, 60, 60, 1))
