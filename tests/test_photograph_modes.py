"""Nearest and bicubic modes on photographs, against other libraries.

The tolerances are those of test_photographs.py: 1 grey level of uint8, 1e-4 of float32. Where a
coordinate is a half, two pixels are equally near, and libraries that round coordinates may choose
either. So nearest results are compared only where the coordinate is at least 0.01 pixels from a
half; there they are equal.
"""

import itertools

import numpy as np
import plain_images as plain
import pytest
from scipy import ndimage
from test_photographs import (
    AFFINE,
    PHOTOGRAPHS,
    PROJECTIVE,
    SHAPE,
    agree,
    from_tensor,
    load,
    planes,
    tensor,
)

import numba_stn as stn
from numba_stn.transforms import matrices

MODES = ("nearest", "bicubic")
cases = pytest.mark.parametrize(
    ("name", "dtype"), [*itertools.product(PHOTOGRAPHS, ["uint8", "float32"])]
)
modes = pytest.mark.parametrize("mode", MODES)
SAMPLE = {"nearest": plain.nearest, "bicubic": plain.cubic}


@pytest.fixture(autouse=True)
def _serial(monkeypatch):
    """One variant of each kernel is enough; other tests compare the serial and parallel ones."""
    monkeypatch.setattr("numba_stn.kernels.cpu_launch.PARALLEL_WORK", 10**12)


def photograph(name, dtype):
    image = load(name)
    return image if dtype == "uint8" else (image / np.float32(255)).astype(np.float32)


def check(ours, theirs, mode, positions, where):
    """Compare as the mode requires."""
    if mode == "bicubic":
        agree(ours, theirs, where)
        return
    where = where & ~plain.is_tied(positions, 0.01)
    assert where.mean() > 0.2
    np.testing.assert_allclose(ours[where], np.asarray(theirs)[where], rtol=0, atol=1e-6)


def lacks(peer, mode):
    pytest.skip(f"{peer} has no {mode} of this kind")


# --- warp_image -----------------------------------------------------------------------------------


def cv2_warp(image, matrix, shape, mode):
    cv2 = pytest.importorskip("cv2")
    if int(cv2.__version__.split(".")[0]) < 5:
        pytest.skip("OpenCV before 5 rounds coordinates to 1/32 of a pixel")
    warp = cv2.warpAffine if len(matrix) == 2 else cv2.warpPerspective
    flag = {"nearest": cv2.INTER_NEAREST, "bicubic": cv2.INTER_CUBIC}[mode]
    return warp(image, matrix, shape[::-1], flags=flag | cv2.WARP_INVERSE_MAP)


def skimage_warp(image, matrix, shape, mode):
    if mode == "bicubic":
        lacks("scikit-image", mode)  # see below
    transform = pytest.importorskip("skimage.transform")
    inverse_map = matrices.to_skimage(matrix)
    return transform.warp(image, inverse_map, order=0, output_shape=shape, preserve_range=True)


def scipy_warp(image, matrix, shape, mode):
    if mode == "bicubic" or len(matrix) == 3:
        lacks("SciPy", mode)
    linear, offset = matrices.to_scipy(matrix)
    return planes(
        lambda plane: ndimage.affine_transform(plane, linear, offset, output_shape=shape, order=0),
        image,
    )


def torch_warp(image, matrix, shape, mode):
    if len(matrix) == 3:
        lacks("PyTorch", "projective grid")
    f = pytest.importorskip("torch").nn.functional
    images = tensor(image, "float64")
    theta = matrices.to_theta(matrix, shape, image.shape[:2])
    grid = f.affine_grid(images.new_tensor(theta)[None], [1, 1, *shape], align_corners=False)
    return from_tensor(f.grid_sample(images, grid, mode=mode, align_corners=False), image)


def kornia_warp(image, matrix, shape, mode):
    torch = pytest.importorskip("torch")
    geometry = pytest.importorskip("kornia.geometry.transform")
    warp = geometry.warp_affine if len(matrix) == 2 else geometry.warp_perspective
    forward = torch.tensor(matrices.to_opencv(matrix))[None]
    return from_tensor(warp(tensor(image, "float64"), forward, shape, mode=mode), image)


WARPS = {
    "oracle": lambda image, matrix, shape, mode: SAMPLE[mode](
        image, *plain.warped_positions(matrix, shape)
    ),
    "cv2": cv2_warp,
    "skimage": skimage_warp,
    "scipy": scipy_warp,
    "torch": torch_warp,
    "kornia": kornia_warp,
}


@cases
@modes
@pytest.mark.parametrize("peer", WARPS)
@pytest.mark.parametrize("matrix", [AFFINE, PROJECTIVE], ids=["affine", "projective"])
def test_warp_image(name, dtype, mode, peer, matrix):
    if matrix is PROJECTIVE and dtype == "float32":
        pytest.skip("one dtype is enough for projective maps: each compiles its own kernels")
    image, positions = photograph(name, dtype), plain.warped_positions(matrix, SHAPE)
    ours = stn.warp_image(image, matrix, SHAPE, mode=mode)
    theirs = WARPS[peer](image, matrix, SHAPE, mode)
    if mode == "bicubic" and dtype == "uint8":
        theirs = np.clip(theirs, 0, 255)  # for peers that return floats
    check(ours, theirs, mode, positions, plain.is_inside(positions, image.shape[:2], 2))


@modes
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_the_identity_and_a_shift_by_one_pixel_are_exact(dtype, mode):
    image = photograph("coffee", dtype)
    for x, y in ((0, 0), (1, 0), (0, 1)):  # samples x pixels further right, y down
        moved = stn.warp_image(image, [[1, 0, x], [0, 1, y]], mode=mode)
        want = image[y:, x:]
        np.testing.assert_array_equal(moved[: len(want), : want.shape[1]], want)


def test_cubic_convolution_of_scikit_image_has_another_parameter():
    """scikit-image has Keys's a = -1/2; ours is -3/4, as in OpenCV and PyTorch."""
    transform = pytest.importorskip("skimage.transform")
    image = photograph("camera", "float32")
    chosen = {"order": 3, "output_shape": SHAPE, "clip": False}
    theirs = transform.warp(image, matrices.to_skimage(AFFINE), **chosen)
    positions = plain.warped_positions(AFFINE, SHAPE)
    inner = plain.is_inside(positions, image.shape, 2)
    agree(theirs, plain.cubic(image, *positions, a=-0.5), inner)
    ours = stn.warp_image(image, AFFINE, SHAPE, mode="bicubic")
    assert 1e-3 < np.abs(ours - theirs)[inner].max() < 0.1


def test_the_cubic_of_scipy_is_a_spline_through_all_pixels():
    image, positions = photograph("camera", "float32"), plain.warped_positions(AFFINE, SHAPE)
    linear, offset = matrices.to_scipy(AFFINE)
    theirs = ndimage.affine_transform(image, linear, offset, output_shape=SHAPE, order=3)
    ours = stn.warp_image(image, AFFINE, SHAPE, mode="bicubic")
    apart = np.abs(ours - theirs)[plain.is_inside(positions, image.shape, 2)]
    assert 1e-3 < apart.max() < 0.3
    assert apart.mean() < 0.01


# --- rotate ---------------------------------------------------------------------------------------


def cv2_rotate(image, degrees, center, mode):
    cv2 = pytest.importorskip("cv2")
    forward = cv2.getRotationMatrix2D(center, degrees, 1.0)
    return cv2_warp(image, matrices.from_opencv(forward), image.shape[:2], mode)


def skimage_rotate(image, degrees, center, mode):
    if mode == "bicubic":
        lacks("scikit-image", mode)
    transform = pytest.importorskip("skimage.transform")
    return transform.rotate(image, degrees, center=center, order=0, preserve_range=True)


ROTATIONS = {
    "oracle": lambda image, degrees, center, mode: SAMPLE[mode](
        image, *plain.rotated_positions(image.shape[:2], degrees, center)
    ),
    "cv2": cv2_rotate,
    "skimage": skimage_rotate,
}


@cases
@modes
@pytest.mark.parametrize("peer", ROTATIONS)
def test_rotate(name, dtype, mode, peer):
    image, center = photograph(name, dtype), (100.25, 130.5)
    for degrees in (33.3, -120):
        positions = plain.rotated_positions(image.shape[:2], degrees, center)
        inner = plain.is_inside(positions, image.shape[:2], 2)
        ours = stn.rotate(image, degrees, center=center, mode=mode)
        check(ours, ROTATIONS[peer](image, degrees, center, mode), mode, positions, inner)


# --- resize and crop_and_resize -------------------------------------------------------------------


def cv2_resize(image, shape, mode):
    """Its INTER_NEAREST rounds j W / W_out down, half a pixel from all other libraries."""
    cv2 = pytest.importorskip("cv2")
    flag = {"nearest": cv2.INTER_NEAREST_EXACT, "bicubic": cv2.INTER_CUBIC}[mode]
    return cv2.resize(image, shape[::-1], interpolation=flag)


def skimage_resize(image, shape, mode):
    if mode == "bicubic":
        lacks("scikit-image", mode)
    transform = pytest.importorskip("skimage.transform")
    chosen = {"order": 0, "mode": "edge", "anti_aliasing": False, "preserve_range": True}
    return transform.resize(image, shape, **chosen)


def scipy_resize(image, shape, mode):
    if mode == "bicubic":
        lacks("SciPy", mode)
    zoom = (shape[0] / image.shape[0], shape[1] / image.shape[1], 1)[: image.ndim]
    return ndimage.zoom(image, zoom, order=0, mode="nearest", grid_mode=True)


def torch_resize(image, shape, mode):
    """Its "nearest", without "exact", rounds as OpenCV's INTER_NEAREST."""
    f = pytest.importorskip("torch.nn.functional")
    exact = {"mode": "nearest-exact"} if mode == "nearest" else {"mode": mode}
    return from_tensor(f.interpolate(tensor(image, "float64"), shape, **exact), image)


def pillow_resize(image, shape, mode):
    if mode == "bicubic" or (image.ndim == 3 and image.dtype == np.float32):
        lacks("Pillow", mode)  # its a is -1/2, and it has no floating colours
    pil = pytest.importorskip("PIL.Image")
    return np.asarray(pil.fromarray(image).resize(shape[::-1], pil.Resampling.NEAREST))


RESIZES = {
    "oracle": lambda image, shape, mode: SAMPLE[mode](
        image, *plain.cropped_positions((0, 0, image.shape[1], image.shape[0]), shape)
    ),
    "cv2": cv2_resize,
    "skimage": skimage_resize,
    "scipy": scipy_resize,
    "torch": torch_resize,
    "pillow": pillow_resize,
}


@cases
@modes
@pytest.mark.parametrize("peer", RESIZES)
def test_resize(name, dtype, mode, peer):
    """At the borders too: all libraries repeat the border pixel."""
    image = photograph(name, dtype)
    height, width = image.shape[:2]
    for shape in ((251, 333), (701, 1003)):
        theirs = RESIZES[peer](image, shape, mode)
        if mode == "bicubic" and dtype == "uint8":
            theirs = np.clip(theirs, 0, 255)
        positions = np.broadcast_arrays(*plain.cropped_positions((0, 0, width, height), shape))
        ours = stn.resize(image, shape, mode=mode)
        check(ours, theirs, mode, positions, np.ones(shape, bool))


@cases
@modes
def test_crop_and_resize(name, dtype, mode):
    image, shape = photograph(name, dtype), (97, 131)
    boxes = [(20.5, 30.25, 120.75, 99.5), (0, 0, 384, 300), (200, 100.5, 290, 180)]
    found = stn.crop_and_resize(image, boxes, shape, mode=mode)
    for box, crop in zip(boxes, found, strict=True):
        positions = np.broadcast_arrays(*plain.cropped_positions(box, shape))
        check(crop, SAMPLE[mode](image, *positions), mode, positions, np.ones(shape, bool))
