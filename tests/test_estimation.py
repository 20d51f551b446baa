"""Maps from pairs of points, and points and boxes that go along with images."""

import itertools

import numpy as np
import pytest

import numba_stn as stn
from numba_stn.transforms.estimation import KINDS

RNG = np.random.default_rng(0)
SEEN = [[320, 512], [960, 512], [0, 1024], [1280, 1024]]
PAGE = [[0, 0], [1280, 0], [0, 1024], [1280, 1024]]


def map_of(kind, dims, rng):
    """A random matrix of a kind."""
    q, _ = np.linalg.qr(rng.normal(size=(dims, dims)))
    q[:, 0] *= np.sign(np.linalg.det(q))
    linear = {"translation": np.eye(dims), "rigid": q, "similarity": 1.7 * q}.get(
        kind, np.eye(dims) + rng.normal(0, 0.3, (dims, dims))
    )
    matrix = np.eye(dims + 1)
    matrix[:dims, :dims], matrix[:dims, dims] = linear, rng.normal(0, 40, dims)
    if kind == "projective":
        matrix[dims, :dims] = rng.uniform(0, 1e-3, dims)
    return matrix


def moved(matrix, points):
    """By a loop, in homogeneous coordinates."""
    result = []
    for point in points:
        *numerator, divisor = matrix @ [*point, 1]
        result.append(np.array(numerator) / divisor)
    return np.array(result)


# --- Estimates ------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [None, 9, 400])
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("kind", KINDS[:-1])
def test_exact_pairs_give_the_map(kind, dims, count):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        matrix = map_of(kind, dims, rng)
        least = {"translation": 1, "affine": dims + 1, "projective": dims + 2}.get(kind, dims)
        source = rng.uniform(0, 500, (count or least, dims))
        found = stn.estimate(kind, source, moved(matrix, source))
        np.testing.assert_allclose(found.matrix, matrix, atol=1e-7, rtol=1e-7)
        assert found.residuals.max() < 1e-9
        assert found.inliers.all()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("kind", ["rigid", "similarity", "affine", "projective"])
def test_noisy_pairs_against_scikit_image(kind, dims, weighted):
    transform = pytest.importorskip("skimage.transform")
    names = {"rigid": "Euclidean", "similarity": "Similarity", "affine": "Affine"}
    theirs = getattr(transform, names.get(kind, "Projective") + "Transform")
    if weighted and kind in ("rigid", "similarity"):
        pytest.skip("scikit-image has no weights for it")
    for count in (dims + 3, 40, 3000):
        source = RNG.uniform(0, 1000, (count, dims))
        target = moved(map_of(kind, dims, RNG), source) + RNG.normal(0, 2, source.shape)
        weights = RNG.uniform(0.1, 3, count) if weighted else None
        expected = theirs.from_estimate(
            source, target, **({"weights": weights} if weighted else {})
        )
        found = stn.estimate(kind, source, target, weights)
        np.testing.assert_allclose(found.matrix, expected.params, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(found.residuals, expected.residuals(source, target), atol=1e-8)
        np.testing.assert_allclose(found.rms, np.sqrt((found.residuals**2).mean()))


@pytest.mark.parametrize("dims", [2, 3])
def test_weights_of_rigid_maps_and_translations_count_like_repeated_pairs(dims):
    source = RNG.normal(size=(7, dims))
    target = RNG.normal(size=(7, dims))
    counts = np.array([0, 1, 2, 1, 3, 0, 5])
    for kind in ("translation", "rigid", "similarity"):
        found = stn.estimate(kind, source, target, counts).matrix
        expected = stn.estimate(kind, np.repeat(source, counts, 0), np.repeat(target, counts, 0))
        np.testing.assert_allclose(found, expected.matrix, atol=1e-12)


@pytest.mark.parametrize("kind", ["translation", "rigid", "similarity"])
def test_no_other_map_of_the_kind_is_closer(kind):
    source, target = RNG.normal(size=(2, 9, 2))
    found = stn.estimate(kind, source, target)
    for _ in range(200):
        small = np.eye(3) + np.pad(RNG.normal(0, 1e-3, (2, 1)), ((0, 1), (2, 0)))
        if kind != "translation":
            a = RNG.normal(0, 1e-3)
            factor = 1 + RNG.normal(0, 1e-3) if kind == "similarity" else 1
            small[:2, :2] = factor * np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
        other = np.linalg.norm(moved(small @ found.matrix, source) - target, axis=1)
        assert (other**2).sum() > (found.residuals**2).sum()


def test_an_origin_at_infinity():
    """The last entry of the matrix must be 0; fixed at 1, the equations had no solution."""
    for found in (
        stn.matrices.from_points(SEEN, PAGE),
        stn.estimate("projective", SEEN, PAGE).matrix,
    ):
        np.testing.assert_allclose(moved(found, SEEN), PAGE, atol=1e-9)
        assert found[2, 2] == 0
        assert abs(found).max() == 1
        assert (found[2] @ np.column_stack([SEEN, np.ones(4)]).T > 0).all()
        back = np.linalg.inv(found)
        np.testing.assert_allclose(moved(back, PAGE), SEEN, atol=1e-9)
    stack = stn.matrices.from_points([SEEN, PAGE], [PAGE, SEEN])
    np.testing.assert_allclose(moved(stack[1], PAGE), SEEN, atol=1e-9)
    image = np.zeros((1024, 1280), np.uint8)
    image[600:900, 400:800] = 200
    flat = stn.warp_image(image, np.linalg.inv(stack[0]), (1024, 1280))
    assert (flat > 0).mean() > 0.2


def test_four_points_in_stacks_are_those_of_opencv():
    cv2 = pytest.importorskip("cv2")
    points = np.float32([[0, 0], [9, 0], [9, 9], [0, 9]]) + RNG.uniform(-2, 2, (20, 4, 2))
    images = np.float32([[0, 0], [50, 3], [60, 70], [-5, 60]]) + RNG.uniform(-2, 2, (20, 4, 2))
    found = stn.matrices.from_points(points, images)
    for one, p, q in zip(found, points, images, strict=True):
        expected = cv2.getPerspectiveTransform(p.astype("f4"), q.astype("f4"))
        np.testing.assert_allclose(one, expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(moved(one, p), q, atol=1e-9)


# --- Splines --------------------------------------------------------------------------------------


def test_a_spline_goes_through_its_landmarks():
    """And is scikit-image's, which solves in float32."""
    transform = pytest.importorskip("skimage.transform")
    source = RNG.uniform(0, 200, (12, 2))
    target = source + RNG.normal(0, 5, source.shape)
    found = stn.estimate("tps", source, target)
    np.testing.assert_allclose(found.transform_points(source), target, atol=1e-9)
    assert found.residuals.max() < 1e-9
    assert found.matrix is None
    points = RNG.uniform(0, 200, (50, 2))
    expected = transform.ThinPlateSplineTransform.from_estimate(source, target)(points)
    np.testing.assert_allclose(stn.transform_points(found, points), expected, atol=2e-3)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_spline_of_an_affine_map_is_that_map(dims):
    matrix = map_of("affine", dims, RNG)
    source = RNG.uniform(0, 100, (9, dims))
    for smoothing in (0.0, 10.0):
        found = stn.estimate("tps", source, moved(matrix, source), smoothing=smoothing)
        points = RNG.uniform(0, 100, (20, dims))
        np.testing.assert_allclose(found.transform_points(points), moved(matrix, points), atol=1e-8)


def test_a_spline_warps_an_image():
    """From output to input points, by maps."""
    image = RNG.random((30, 40))
    corners = np.array([[0.0, 0], [39, 0], [39, 29], [0, 29], [20, 15]])
    found = stn.estimate("tps", corners, corners + np.array([2, 1]))
    assert found.maps((30, 40))[0].shape == (30, 40)
    warped = stn.remap(image, *found.maps((30, 40)))
    np.testing.assert_allclose(warped[:29, :38], image[1:, 2:], atol=1e-6)
    x, y, z = stn.estimate("translation", [[0, 0, 0]], [[1, 2, 3]]).maps((4, 5, 6))
    assert x.shape == (4, 5, 6)
    assert (x[1, 2, 3], y[1, 2, 3], z[1, 2, 3]) == (4, 4, 4)


# --- Outliers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("kind", KINDS[:-1])
def test_outliers_are_left_out(kind, dims):
    matrix = map_of(kind, dims, RNG)
    source = RNG.uniform(0, 500, (40, dims))
    target = moved(matrix, source) + RNG.uniform(-0.2, 0.2, source.shape)
    wrong = RNG.permutation(40)[:16]
    target[wrong] += RNG.uniform(30, 200, (16, dims))
    found = stn.estimate(kind, source, target, robust=2.0)
    assert set(np.flatnonzero(~found.inliers)) == set(wrong)
    right = np.setdiff1d(np.arange(40), wrong)
    expected = stn.estimate(kind, source[right], target[right]).matrix
    np.testing.assert_array_equal(found.matrix, expected)
    again = stn.estimate(kind, source, target, robust=2.0)
    np.testing.assert_array_equal(again.matrix, found.matrix)


def test_pairs_of_weight_zero_are_left_out():
    source = RNG.uniform(0, 100, (8, 2))
    target = source + 3
    target[3] = 1e6
    weights = np.ones(8)
    weights[3] = 0
    for robust in (None, 1.0):
        for kind in KINDS[:-1]:
            found = stn.estimate(kind, source, target, weights, robust)
            np.testing.assert_allclose(found.matrix[:2], [[1, 0, 3], [0, 1, 3]], atol=1e-9)
            assert found.inliers.tolist() == (weights > 0).tolist()


def test_pairs_without_any_map_are_refused():
    source, target = RNG.uniform(0, 1000, (2, 30, 2))
    with pytest.raises(ValueError, match=r"robust: expected more than 4 pairs that a map of kind"):
        stn.estimate("projective", source, target, robust=1e-3)


# --- Refused --------------------------------------------------------------------------------------

LINE = np.array([[0.0, 0], [1, 2], [2, 4], [3, 6], [4, 8]])
GOOD = np.array([[0.0, 0], [5, 1], [4, 7], [-2, 6], [1, 2]])
SAME = np.ones((5, 2))


@pytest.mark.parametrize(("kind", "source", "target"), [
    ("rigid", SAME, GOOD), ("rigid", GOOD, SAME), ("similarity", SAME, GOOD),
    ("similarity", GOOD, SAME), ("affine", LINE, GOOD), ("affine", GOOD, LINE),
    ("affine", SAME, GOOD), ("projective", LINE, GOOD), ("projective", GOOD, LINE),
    ("projective", GOOD[[0, 0, 1, 2]], GOOD[[0, 0, 1, 2]]),
    ("projective", [*LINE[:3], [5, 0]], GOOD[:4]),
    ("projective", [*LINE[:3], [5, 0]], [*LINE[:3], [5, 0]]), ("tps", LINE, GOOD),
    ("tps", GOOD[[0, 0, 1, 2]], GOOD[:4]),
    ("rigid", np.pad(LINE, ((0, 0), (0, 1))), np.pad(LINE, ((0, 0), (0, 1)))),
    ("affine", np.pad(GOOD, ((0, 0), (0, 1))), np.pad(GOOD, ((0, 0), (0, 1)))),
    ("projective", np.pad(GOOD, ((0, 0), (0, 1))), np.pad(GOOD, ((0, 0), (0, 1)))),
], ids=str)  # fmt: skip
def test_degenerate_sets_are_refused(kind, source, target):
    """Anywhere, in any units, and nearly so."""
    for factor, shift in itertools.product((1e-3, 1, 1e4), (0, 1e3)):
        s, t = (np.asarray(points, float) * factor + shift * factor for points in (source, target))
        with pytest.raises(ValueError, match=r"^source(, target)?: expected .* for '"):
            stn.estimate(kind, s, t)


@pytest.mark.parametrize(("arguments", "message"), [
    (("bend", GOOD, GOOD), "kind: expected one of translation, rigid,"),
    (("affine", GOOD[:2], GOOD[:2]), "source: expected at least 3 points for 'affine', got 2"),
    (("affine", GOOD, GOOD[:4]), r"target: expected a point for each of source, \(5, 2\)"),
    (("affine", GOOD.T, GOOD.T), r"source: expected points \(N, 2\) or \(N, 3\), got shape \(2, 5"),
    (("affine", GOOD, GOOD, [1, 1, 0, 0, 0]), "source: expected at least 3 points"),
    (("affine", GOOD, GOOD, [1, 1, 1, 1, -1]), "weights: expected 5 numbers of at least 0"),
    (("affine", GOOD, GOOD, [1, 1]), "weights: expected 5 numbers"),
    (("affine", GOOD, GOOD, None, 0), "robust: expected a positive number, got 0"),
    (("tps", GOOD, GOOD, None, 1.0), "robust: expected None for a spline"),
    (("tps", GOOD, GOOD, np.ones(5)), "weights: expected None for a spline"),
    (("affine", [[np.nan, 0]] * 5, GOOD), "source: expected finite numbers"),
    (("affine", GOOD, GOOD, None, "far"), "robust: expected numbers, got 'far'"),
], ids=str)  # fmt: skip
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        stn.estimate(*arguments)


@pytest.mark.parametrize(("options", "message"), [
    ({"smoothing": -1}, "smoothing: expected a number of at least 0, got -1"),
    ({"smoothing": 1}, "smoothing: expected 0 for 'affine'"),
    ({"robust": 1.0, "rng": "seed"}, "rng: expected a seed, got 'seed'"),
])  # fmt: skip
def test_bad_options_are_named(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        stn.estimate("affine", GOOD, GOOD, **options)


# --- Points and boxes -----------------------------------------------------------------------------


@pytest.mark.parametrize("dims", [2, 3])
def test_points_move_as_by_a_loop(dims):
    for kind in ("affine", "projective"):
        matrix = map_of(kind, dims, RNG)
        points = RNG.uniform(0, 100, (6, dims))
        np.testing.assert_allclose(stn.transform_points(matrix, points), moved(matrix, points))
        if kind == "affine":
            found = stn.transform_points(matrix[:dims], points)
            np.testing.assert_allclose(found, moved(matrix, points))
        stack = np.stack([matrix, np.linalg.inv(matrix)])
        found = stn.transform_points(stack, points)
        np.testing.assert_allclose(found[1], moved(stack[1], points))
        assert stn.transform_points(matrix, np.zeros((0, dims))).shape == (0, dims)


@pytest.mark.parametrize("dims", [2, 3])
def test_the_gradients_of_moved_points(dims):
    matrix, points = map_of("projective", dims, RNG), RNG.uniform(0, 100, (6, dims))
    dmoved = RNG.normal(size=(6, dims))
    dmatrix, dpoints = stn.transform_points_vjp(dmoved, matrix, points)
    for array, gradient in ((matrix, dmatrix), (points, dpoints)):
        direction = RNG.normal(size=array.shape) * np.maximum(abs(array), 1e-2)
        step, values = 1e-6, []
        for sign in (1, -1):
            array += sign * step * direction
            values.append((stn.transform_points(matrix, points) * dmoved).sum())
            array -= sign * step * direction
        expected = (values[0] - values[1]) / (2 * step)
        np.testing.assert_allclose((gradient * direction).sum(), expected, rtol=1e-6)


def blob_centre(image):
    weights = image.astype(float)
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    return np.array([(x * weights).sum(), (y * weights).sum()]) / weights.sum()


def spot(x, y, sides=(120, 160)):
    rows, columns = np.mgrid[: sides[0], : sides[1]]
    return np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 18)


@pytest.mark.parametrize("call", [
    lambda image: stn.rotate(image, 25, return_matrix=True),
    lambda image: stn.rotate(image, 25, zoom=0.8, expand=True, return_matrix=True),
    lambda image: stn.rotate(image, -70, center=(60, 50), return_matrix=True),
    lambda image: stn.resize(image, (200, 130), return_matrix=True),
    lambda image: stn.crop_and_resize(image, (20, 10, 150, 110), (90, 130), return_matrix=True),
    lambda image: tuple(result[1] for result in stn.crop_and_resize(
        image, [(0, 0, 9, 9), (20, 10, 150, 110)], (90, 130), return_matrix=True)),
])  # fmt: skip
def test_the_returned_matrix_takes_points_along(call):
    """A spot in the image is where the matrix says that it goes."""
    for x, y in ((70, 60), (85.5, 52.25)):
        warped, matrix = call(spot(x, y))
        assert matrix.shape == (3, 3)
        found = stn.transform_points(matrix, [[x, y]])[0]
        np.testing.assert_allclose(blob_centre(warped), found, atol=0.02)
        again = stn.warp_image(spot(x, y), stn.matrices.from_opencv(matrix), warped.shape)
        np.testing.assert_allclose(blob_centre(again), found, atol=0.02)


def test_no_boxes_have_no_matrices():
    crops, matrices = stn.crop_and_resize(spot(5, 5), np.zeros((0, 4)), (3, 4), return_matrix=True)
    assert (crops.shape, matrices.shape) == ((0, 3, 4), (0, 3, 3))


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_boxes_of_exact_rotations(degrees):
    """A box of ones is the slice that the moved box names."""
    image = np.zeros((60, 80), np.uint8)
    image[10:30, 50:75] = 1
    rotated, matrix = stn.rotate(image, degrees, expand=True, return_matrix=True)
    (box,), (kept,) = stn.transform_boxes(matrix, [[50, 10, 75, 30]], rotated.shape)
    x0, y0, x1, y1 = box.round().astype(int)
    np.testing.assert_allclose(box, [x0, y0, x1, y1], atol=1e-9)
    assert kept
    assert rotated[y0:y1, x0:x1].all()
    assert rotated.sum() == (y1 - y0) * (x1 - x0)
    (centres,), _ = stn.transform_boxes(matrix, [[50, 10, 74, 29]], pixels="centers")
    np.testing.assert_allclose(centres, [x0, y0, x1 - 1, y1 - 1], atol=1e-9)


def test_boxes_are_clipped_and_counted():
    """As albumentations' ``min_visibility``: the visible share of the moved box."""
    shift = [[1, 0, 10], [0, 1, 0]]
    boxes = [[0, 0, 10, 10], [85, 0, 95, 10], [95, 0, 105, 10], [0, -50, 10, -20], [20, 20, 20, 30]]
    found, kept = stn.transform_boxes(shift, boxes, (50, 100))
    assert found.tolist() == [[10, 0, 20, 10], [95, 0, 100, 10], [100, 0, 100, 10], [10, 0, 20, 0],
                              [30, 20, 30, 30]]  # fmt: skip
    assert kept.tolist() == [True, True, False, False, False]
    for least, expected in ((0.5, True), (0.51, False)):
        assert stn.transform_boxes(shift, boxes, (50, 100), min_visible=least)[1][1] == expected
    found, kept = stn.transform_boxes(shift, np.zeros((0, 4)), (50, 100))
    assert (found.shape, kept.shape) == ((0, 4), (0,))
    found, kept = stn.transform_boxes(shift, boxes)
    assert found[3].tolist() == [10, -50, 20, -20]
    assert kept.all()


def test_a_turned_box_is_the_outer_one():
    matrix = stn.rotate(np.zeros((101, 101)), 45, return_matrix=True)[1]
    (box,), _ = stn.transform_boxes(matrix, [[40.5, 40.5, 60.5, 60.5]])
    half = 10 * np.sqrt(2)
    np.testing.assert_allclose(box, [50.5 - half, 50.5 - half, 50.5 + half, 50.5 + half])


@pytest.mark.parametrize(("arguments", "options", "message"), [
    ((np.eye(3), [[0, 0, 5]]), {}, r"boxes: expected shape \(K, 4\), got \(1, 3\)"),
    ((np.eye(3), [[5, 0, 0, 5]]), {}, "boxes: expected x0 <= x1 and y0 <= y1"),
    ((np.eye(4), [[0, 0, 5, 5]]), {}, r"matrix: expected shape \(..., 2, 3\) or"),
    ((np.eye(3), [[0, 0, 5, 5]]), {"min_visible": 2}, "min_visible: expected a number of"),
    ((np.eye(3), [[0, 0, 5, 5]], 5), {}, r"size: expected two sides \(H, W\), got 5"),
    ((np.eye(3), [[0, 0, 5, 5]]), {"pixels": "middle"}, "pixels: expected 'edges' or 'centers'"),
    (([[1, 0, 0], [0, 1, 0], [0.5, 0, -1]], [[0, 0, 5, 5]]), {}, "boxes that stay finite"),
])  # fmt: skip
def test_bad_boxes_are_named(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        stn.transform_boxes(*arguments, **options)


@pytest.mark.parametrize(("matrix", "points", "message"), [
    (np.eye(3), [1, 2], r"points: expected shape \(..., P, 2\)"),
    (np.eye(3), [[1, 2, 3, 4]], r"points: expected shape"),
    (np.eye(3), [[1, 2, 3]], r"matrix: expected shape .* or \(..., 4, 4\) for points of 3"),
    (np.ones((2, 3, 3)), np.ones((4, 5, 2)), "or one set for each matrix"),
    (np.full((3, 3), np.nan), [[1, 2]], "matrix: expected finite numbers"),
])  # fmt: skip
def test_bad_points_are_named(matrix, points, message):
    with pytest.raises(ValueError, match=message):
        stn.transform_points(matrix, points)
