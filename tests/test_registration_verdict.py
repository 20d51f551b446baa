"""Registration's verdict: it is true where the map is right, and only there."""

import gc
import tracemalloc
import warnings

import numpy as np
import pytest
from scipy import ndimage
from test_registration import about_center, corner_error, rotation, scene, warped

import numba_stn as stn
from numba_stn.kernels import cpu_launch
from numba_stn.registration import models, pyramid, verdict

SIDES = (120, 136)
MATRIX = about_center(rotation(4, 1.02), (3.2, -2.3), SIDES)


def pair(seed=0):
    """A scene, and the same scene under MATRIX, both in grey levels."""
    moving = 200 * scene(seed, SIDES, 1.5)
    return moving, warped(moving, MATRIX)


def register(moving, fixed, transform="affine", **options):
    """Register, and let no warning pass."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return stn.register(moving, fixed, transform, **options)


def check(found, matrix=MATRIX, sides=SIDES, atol=0.1):
    assert found.report.converged, found.report
    assert corner_error(found.matrix, matrix, sides) < atol


# --- Masks ----------------------------------------------------------------------------------------


def discs(radius, count):
    y, x = np.mgrid[: SIDES[0], : SIDES[1]]
    centers = np.random.default_rng(1).uniform(0, SIDES[1], (count, 2))
    return np.all([(x - a) ** 2 + (y - b) ** 2 > radius**2 for a, b in centers], axis=0)


ROWS, COLUMNS = np.mgrid[: SIDES[0], : SIDES[1]]
MASKS = {
    "2 % holes": np.random.default_rng(2).random(SIDES) > 0.02,
    "20 % holes": np.random.default_rng(3).random(SIDES) > 0.2,
    "small discs": discs(3, 50),
    "discs": discs(8, 15),
    "large discs": discs(14, 6),
    "stripes": ROWS % 8 > 2,
    "columns": COLUMNS % 20 > 9,
    "a region": np.hypot(ROWS - 60, COLUMNS - 68) < 45,
}


@pytest.mark.parametrize("name", MASKS)
def test_masks_with_holes(name):
    """Garbage lies beneath; the holes are in the fixed image, then in the moving one."""
    (moving, fixed), mask = pair(), MASKS[name]
    garbage = np.random.default_rng(0).choice(np.float32([0, 255]), SIDES)
    check(register(moving, np.where(mask, fixed, garbage), mask=mask))
    check(register(np.where(mask, moving, garbage), fixed, moving_mask=mask))


def test_what_is_beneath_a_mask_does_not_matter():
    (moving, fixed), mask, moving_mask = pair(), MASKS["discs"], MASKS["20 % holes"]
    found = []
    for nothing in (np.nan, np.inf, 0, -1e30):
        images = np.where(moving_mask, moving, nothing), np.where(mask, fixed, nothing)
        found.append(register(*np.float32(images), mask=mask, moving_mask=moving_mask))
        check(found[-1])
        np.testing.assert_array_equal(found[-1].matrix, found[0].matrix)
    with pytest.raises(ValueError, match="fixed: expected finite numbers"):
        register(moving, np.where(mask, fixed, np.nan), mask=~mask)
    with pytest.raises(ValueError, match="moving_mask: expected the image's sides"):
        register(moving, fixed, moving_mask=mask[1:])


def test_masks_of_volumes():
    sides = (24, 28, 32)
    volume = scene(5, sides, 1.5)
    known = about_center(np.eye(3), (1.4, -1.1, 0.8), sides)
    mask = np.random.default_rng(0).random(sides) > 0.05
    fixed = np.where(mask, warped(volume, known), np.nan)
    check(register(volume, fixed, "rigid 3-D", mask=mask), known, sides)
    moving = np.where(mask, volume, np.nan)
    check(register(moving, warped(volume, known), "rigid 3-D", moving_mask=mask), known, sides)


@pytest.mark.parametrize("transform", ["translation", "affine", "projective"])
def test_a_black_third_of_the_moving_image_is_masked(transform):
    """As in OpenCV's test of findTransformECC's mask."""
    source = 200 * scene(3, (216, 216), 3)
    matrix = np.eye(3)
    matrix[:2, 2] = 17.3, 12.1
    if transform != "translation":
        matrix[:2, :2] += [[0.03, -0.02], [0.025, -0.03]]
    if transform == "projective":
        matrix[2, :2] = 2e-4, 3e-4
    fixed = stn.warp_image(source, matrix, (200, 200))
    moving, mask = source.copy(), np.ones((216, 216), bool)
    moving[144:, 144:], mask[144:, 144:] = 0, False
    check(register(moving, fixed, transform, moving_mask=mask), matrix, (200, 200), atol=0.2)


# --- What does not follow the map -----------------------------------------------------------------


@pytest.mark.parametrize("box", [np.s_[:, 40:76], np.s_[30:80, 40:90]], ids=["a band", "a block"])
def test_a_moving_object_does_not_pull_the_map(box):
    moving, fixed = pair(1)
    fixed[box] = np.roll(fixed, 5, axis=1)[box]
    check(register(moving, fixed))


@pytest.mark.parametrize("swapped", [False, True])
def test_a_black_rim_does_not_pull_the_map(swapped):
    moving = pair(2)[0]
    fixed = stn.warp_image(moving, MATRIX, SIDES)  # black outside
    images, matrix = (
        ((fixed, moving), np.linalg.inv(MATRIX)) if swapped else ((moving, fixed), MATRIX)
    )
    check(register(*images), matrix, atol=0.08)


@pytest.mark.parametrize("transform", ["similarity", "tps"])
def test_outliers_are_left_out_at_four_levels(transform):
    sides = (210, 220)
    moving = 200 * scene(8, sides, 2)
    matrix = about_center(rotation(2), (2, -1), sides)
    fixed = warped(moving, matrix)
    fixed[60:110, 70:120] = 250
    found = register(moving, fixed, transform)
    assert found.report.converged, found.report
    assert len(found.report.iterations) == 4
    expected = warped(moving, matrix)
    inside = np.s_[20:-20, 20:-20]
    np.testing.assert_allclose(found.aligned[inside], expected[inside], atol=4)


def test_dead_pixels_do_not_pull_the_map():
    dead = np.random.default_rng(4).random(SIDES) < 0.005
    check(register(*(np.where(dead, np.float32(250), image) for image in pair(3))))


def test_images_match_only_if_most_parts_do():
    """The details of 40 % of the parts agree, and have most of the contrast."""
    moving, fixed = pair(4)
    for image, other in ((moving, 200 * scene(5, SIDES, 1.5)), (fixed, 200 * scene(6, SIDES, 1.5))):
        image[:, :80] = 0.3 * other[:, :80]
    report = register(moving, fixed, start=MATRIX[:2]).report
    assert report.details > 0.5
    assert not report.converged
    assert report.reason.startswith("no match")


@pytest.mark.parametrize("shift", [0.2, 0.8, 1.4])
def test_the_displacement_that_remains_is_measured(shift):
    """The map is the identity, and the scene is shifted. Slopes of fine details are too low."""
    moving = pair(4)[0]
    fixed = warped(moving, about_center(np.eye(2), (0.6 * shift, 0.8 * shift), SIDES))
    levels, *_ = pyramid.pyramid(pyramid.Images(moving, fixed), None)
    frame = pyramid.frames(moving, fixed)[1]
    model = models.MatrixMap("affine", np.eye(3), frame)
    details, level = verdict.compare(model, levels, frame)
    assert shift < details.displacement < 1.35 * shift
    assert details.number == 16
    assert (verdict.disagreement(details, level) == "") == (shift < 0.5)


def test_a_group_that_is_too_small_leaves_parts_displaced():
    report = register(*pair(5), "translation").report
    assert not report.converged
    assert "displaced" in report.reason or "correlation" in report.reason


# --- Little content, other resolutions, other bytes -----------------------------------------------


def test_binary_images_of_two_cells():
    y, x = np.mgrid[:130, :140]
    image = np.zeros((130, 140), np.uint8)
    image[((x - 45) / 22) ** 2 + ((y - 50) / 13) ** 2 < 1] = 255
    image[((x - 95) / 12) ** 2 + ((y - 85) / 20) ** 2 < 1] = 255
    matrix = about_center(rotation(6), (4, -3), image.shape)
    fixed = np.uint8(255 * (warped(np.float32(image), matrix) > 127))
    check(register(image, fixed, "rigid"), matrix, image.shape, 0.3)


@pytest.mark.parametrize("factor", [2, 3])
@pytest.mark.parametrize("larger", ["moving", "fixed"])
def test_another_resolution(factor, larger):
    large = 200 * scene(7, (240, 240), 3)
    view = warped(large, about_center(rotation(3), (4, -5), (240, 240)))
    small = view.reshape(240 // factor, factor, -1, factor).mean((1, 3))
    to_large = np.diag([factor, factor, 1.0])
    to_large[:2, 2] = (factor - 1) / 2
    matrix = about_center(rotation(3), (4, -5), (240, 240)) @ to_large
    images = large, small
    if larger == "fixed":
        images, matrix = images[::-1], np.linalg.inv(matrix)
    for start in (None, matrix[:2]):
        check(register(*images, start=start), matrix, images[1].shape, 0.2)


@pytest.mark.parametrize("dtype", ["u2", "f4", "f8"])
def test_byte_orders(dtype):
    images = [image.astype(dtype) for image in pair()]
    found = register(*images)
    swapped = register(*(image.astype(image.dtype.newbyteorder("S")) for image in images))
    check(found)
    np.testing.assert_array_equal(swapped.matrix, found.matrix)
    np.testing.assert_array_equal(swapped.aligned, found.aligned)


def test_ranges_of_floats():
    """Values near the limits of float32 and float64, and far from 0."""
    images = [np.float64(image) for image in pair()]
    expected = register(*images).matrix
    for scale, offset in ((1e300, 0), (1e-300, 0), (1, 1e9)):
        found = register(*(scale * image + offset for image in images))
        np.testing.assert_allclose(found.matrix, expected, atol=1e-3)


# --- Memory ---------------------------------------------------------------------------------------


def test_tables_of_splines_are_bounded(monkeypatch):
    limit = 4 * 2**20
    monkeypatch.setattr(models, "TABLES", models.RecentTables(limit))
    monkeypatch.setattr(cpu_launch, "PARALLEL_WORK", 2**60)  # one variant of each kernel
    images = {side: ndimage.zoom(scene(0, (40, 40)), side / 40) for side in range(140, 190, 10)}
    images = [image for image in images.values() for _ in range(2)]  # twice: the first may compile
    tracemalloc.start()
    try:
        for k, image in enumerate(images):  # their tables have 1.6 to 3 MB each
            stn.register(image, image, "tps", levels=1, iterations=1)
            if k == 1:
                tracemalloc.clear_traces()
        gc.collect()
        kept = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert 0 < models.TABLES.nbytes <= limit
    assert kept < limit + 2**20
