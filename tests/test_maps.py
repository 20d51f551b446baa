"""Maps for ``remap`` against OpenCV and scikit-image, and matrices of volumes against SciPy."""

import numpy as np
import pytest
from scipy import ndimage

import numba_stn as stn

RNG = np.random.default_rng(0)


def smooth(height, width, channels=()):
    """A smooth image, so that positions off by a little change little."""
    noise = RNG.random((height, width, *channels))
    sigma = (3, 3, *[0] * len(channels))
    found = ndimage.gaussian_filter(noise, sigma)
    return ((found - found.min()) / np.ptp(found)).astype(np.float32)


PHOTO = smooth(90, 120, (3,))
GREY = np.ascontiguousarray(PHOTO[..., 0])


# --- remap ----------------------------------------------------------------------------------------


def wavy(height=80, width=100):
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return x * 1.3 - 9 + 4 * np.sin(y / 9), y * 1.2 - 7 + 5 * np.cos(x / 11)


BORDERS = {"zeros": "CONSTANT", "border": "REPLICATE", "reflection": "REFLECT", "wrap": "WRAP"}


# Some of the combinations: each compiles a kernel of grid_sample, whose own tests have all.
@pytest.mark.parametrize(("dtype", "mode", "padding"), [
    (np.uint8, "bilinear", "zeros"), (np.float32, "bilinear", "border"),
    (np.uint16, "nearest", "reflection"), (np.uint8, "bicubic", "wrap"),
])  # fmt: skip
def test_remap_against_opencv(dtype, mode, padding):
    cv2 = pytest.importorskip("cv2")
    map_x, map_y = wavy()
    scale = 1 if dtype == np.float32 else np.iinfo(dtype).max
    image = (PHOTO * scale).astype(dtype)
    flags = {"nearest": cv2.INTER_NEAREST, "bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}
    border = getattr(cv2, f"BORDER_{BORDERS[padding]}")
    expected = cv2.remap(image, map_x, map_y, flags[mode], borderMode=border)
    found = stn.remap(image, map_x, map_y, mode=mode, padding_mode=padding)
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    differ = np.abs(found.astype(float) - expected) / scale
    assert np.quantile(differ, 0.98) < 0.01  # OpenCV rounds positions, and nearest at ties
    assert differ.mean() < 2e-3


@pytest.mark.parametrize("nearest", [False, True])
def test_fixed_point_maps_of_opencv(nearest):
    """The same 32nds that OpenCV uses."""
    cv2 = pytest.importorskip("cv2")
    map_x, map_y = wavy()
    whole, fractions = cv2.convertMaps(map_x, map_y, cv2.CV_16SC2, nninterpolation=nearest)
    image = (255 * PHOTO).astype(np.uint8)
    flag = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
    expected = cv2.remap(image, whole, fractions, flag)
    mode = "nearest" if nearest else "bilinear"
    found = stn.remap(image, whole, None if nearest else fractions, mode=mode)
    assert np.abs(found.astype(int) - expected).max() <= (0 if nearest else 1)


def test_remap_of_small_things():
    image = np.arange(6.0).reshape(2, 3)
    assert stn.remap(image, [[np.nan, 0, 99]], [[0, 1, 0]], padding_mode="fill", fill=-1).tolist() \
        == [[-1, 3, -1]]  # fmt: skip
    assert stn.remap(image[..., None], [[0]], [[1]]).shape == (1, 1, 1)
    assert stn.remap(image.astype(np.float16), [[0.5]], [[0]]).dtype == np.float16


@pytest.mark.parametrize(("arguments", "message"), [
    ((np.zeros(3), [[0]], [[0]]), r"image: expected shape \(H, W\) or \(H, W, C\), got \(3,\)"),
    ((GREY, [0, 1], [0, 1]), r"map_x, map_y: expected two arrays \(H_out, W_out\)"),
    ((GREY, np.zeros((2, 3)), np.zeros((3, 2))), "map_x, map_y: expected two arrays"),
    ((GREY, np.zeros((2, 3, 2), np.int16), np.zeros((2, 3))), r"map_y: expected \(2, 3\) of ui"),
    ((GREY, np.zeros((2, 3, 3), np.int16), None), r"map_x: expected \(H_out, W_out, 2\) of int16"),
    ((GREY, [[0]]), "map_x, map_y: expected two arrays"),
], ids=str)  # fmt: skip
def test_bad_maps_are_named(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        stn.remap(*arguments)


# --- Swirls and polar images ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"strength": 5, "radius": 60, "rotation": 0.3},
        {"center": (40, 70), "strength": -3, "radius": 90},
    ],
    ids=str,
)
def test_swirl_against_scikit_image(options):
    transform = pytest.importorskip("skimage.transform")
    theirs = {"center": (59.5, 44.5)} | options
    expected = transform.swirl(GREY, **theirs, order=1, mode="constant")
    found = stn.remap(GREY, *stn.maps.swirl(GREY.shape, **options))
    x, y = stn.maps.swirl(GREY.shape, **options)
    inside = (x > 0) & (x < 119) & (y > 0) & (y < 89)  # scikit-image does not fade into zeros
    np.testing.assert_allclose(found[inside], expected[inside], atol=1e-5)
    back = {**options, "strength": -options.get("strength", 1.0),
            "rotation": -options.get("rotation", 0.0)}  # fmt: skip
    u, _ = stn.maps.swirl(GREY.shape, **back)
    inside = (x > 0) & (x < 118) & (y > 0) & (y < 88)
    np.testing.assert_allclose(stn.remap(u, x, y)[inside], np.mgrid[:90, :120][1][inside], atol=0.3)


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("channels", [False, True])
def test_polar_images_against_scikit_image(channels, log):
    transform = pytest.importorskip("skimage.transform")
    image = PHOTO if channels else GREY
    options = {"channel_axis": -1} if channels else {}
    options |= {"scaling": "log" if log else "linear", "order": 1}
    expected = transform.warp_polar(image, (40, 60), radius=38, output_shape=(180, 90), **options)
    found = stn.warp_polar(image, (180, 90), (60, 40), 38, log=log)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("log", [False, True])
def test_polar_images_are_rolled_up_again(log, mode):
    polar = stn.warp_polar(PHOTO, (720, 300), (60, 40), 38, log=log, mode=mode)
    found = stn.unwarp_polar(polar, PHOTO.shape[:2], (60, 40), 38, log=log, mode=mode, fill=9)
    y, x = np.mgrid[:90, :120]
    distance = np.hypot(x - 60, y - 40)
    inside = (distance < 37.5) & (distance >= (1 if log else 0))
    np.testing.assert_allclose(found[inside], PHOTO[inside], atol=0.01)
    assert (found[distance > 38.1] == 9).all()


def test_rolling_up_against_opencv():
    """Also between the last angle and the first."""
    cv2 = pytest.importorskip("cv2")
    polar = smooth(64, 50)
    flags = cv2.INTER_LINEAR | cv2.WARP_POLAR_LINEAR | cv2.WARP_INVERSE_MAP
    expected = cv2.warpPolar(polar, (120, 90), (60, 40), 38, flags)
    found = stn.unwarp_polar(polar, (90, 120), (60, 40), 38)
    y, x = np.mgrid[:90, :120]
    inside = np.hypot(x - 60, y - 40) < 36
    np.testing.assert_allclose(found[inside], expected[inside], atol=0.02)


# --- Meshes ---------------------------------------------------------------------------------------


def mesh():
    y, x = np.mgrid[0:89:5j, 0:119:6j]
    points = np.stack([x.ravel(), y.ravel()], 1)
    points[:, 0] += RNG.uniform(-1e-3, 1e-3, len(points))  # so that the triangles are unique
    targets = points + RNG.uniform(-6, 6, points.shape)
    return points, targets


def test_meshes_against_scikit_image():
    transform = pytest.importorskip("skimage.transform")
    points, targets = mesh()
    theirs = transform.PiecewiseAffineTransform.from_estimate(points, targets)
    y, x = np.mgrid[:90, :120]
    expected = theirs(np.stack([x.ravel(), y.ravel()], 1)).T.reshape(2, 90, 120)
    found = np.stack(stn.maps.piecewise_affine((90, 120), points, targets))
    inside = np.isfinite(found).all(0) & (expected != -1).all(0)
    assert inside.mean() > 0.95
    np.testing.assert_allclose(found[:, inside], expected[:, inside], atol=1e-9)
    warped = transform.warp(GREY, theirs, order=1)
    np.testing.assert_allclose(stn.remap(GREY, *found)[inside], warped[inside], atol=1e-5)


def test_a_mesh_is_inverted_by_exchanging_its_points():
    from scipy.spatial import Delaunay

    points, targets = mesh()
    triangles = Delaunay(points).simplices
    back = np.stack(stn.maps.piecewise_affine((90, 120), targets, points, triangles))
    for corner, target in zip(triangles[3:9], targets[triangles[3:9]], strict=True):
        x, y = target.mean(0).round().astype(int)
        a = np.linalg.solve(np.vstack([target.T, np.ones(3)]), [x, y, 1])
        np.testing.assert_allclose(back[:, y, x], a @ points[corner], atol=1e-9)


@pytest.mark.parametrize(("points", "options", "message"), [
    ([[0, 0], [1, 1]], {}, "points: expected at least three"),
    ([[0, 0], [1, 1], [2, 2]], {}, "points: expected points that are not on a line"),
    ([[0, 0], [1, 1], [2, 0]], {"triangles": [[0, 1, 3]]}, "triangles: expected indices of 3"),
    ([[0, 0], [1, 1], [2, 0]], {"triangles": [0, 1, 2]}, r"triangles: expected \(K, 3\) integers"),
])  # fmt: skip
def test_bad_meshes_are_named(points, options, message):
    with pytest.raises(ValueError, match=message):
        stn.maps.piecewise_affine((5, 5), points, points, **options)


# --- Lenses ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [(0.1,), (-0.2, 0.05), (0.3, -0.1, 0.02)])
def test_lenses_against_opencv(k):
    cv2 = pytest.importorskip("cv2")
    camera = np.array([[100.0, 0, 55], [0, 90, 40], [0, 0, 1]])
    k1, k2, k3 = [*k, 0, 0][:3]
    expected = cv2.initUndistortRectifyMap(camera, np.array([k1, k2, 0, 0, k3]), None, camera,
                                           (120, 90), cv2.CV_32FC1)  # fmt: skip
    found = stn.maps.undistort((90, 120), k, (100, 90), (55, 40))
    np.testing.assert_allclose(found, expected, atol=2e-4)


@pytest.mark.parametrize("k", [(0.1,), (-0.2, 0.05), (0.3, -0.1, 0.02), (-0.4,), (0.0,)])
def test_distorting_is_the_inverse_of_undistorting(k):
    """Newton's solutions put into the polynomial."""
    u, v = stn.maps.distort((90, 120), k, (100, 90), (55, 40))
    r = np.hypot((u - 55) / 100, (v - 40) / 90)
    k1, k2, k3 = [*k, 0, 0][:3]
    factor = 1 + k1 * r**2 + k2 * r**4 + k3 * r**6
    y, x = np.mgrid[:90, :120]
    seen = np.isfinite(u)
    np.testing.assert_allclose((55 + (u - 55) * factor)[seen], x[seen], atol=1e-6)
    np.testing.assert_allclose((40 + (v - 40) * factor)[seen], y[seen], atol=1e-6)
    if k != (-0.4,):
        assert seen.all()
    distance = np.hypot((x - 55) / 100, (y - 40) / 90)
    largest = 2 / 3 * np.sqrt(1 / 1.2) if k == (-0.4,) else np.inf  # of r - 0.4 r^3
    np.testing.assert_array_equal(seen, distance <= largest)


# --- Gradients ------------------------------------------------------------------------------------


def check_gradient(value, gradient, parameter):
    """Against a finite difference in a random direction."""
    parameter = np.asarray(parameter, float)
    direction = RNG.normal(size=parameter.shape)
    step = 1e-5
    found = (value(parameter + step * direction) - value(parameter - step * direction)) / (2 * step)
    np.testing.assert_allclose((gradient * direction).sum(), found, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["strength", "radius", "rotation", "center"])
def test_gradients_of_swirls(name):
    given = {"center": (13.2, 9.7), "strength": 2.0, "radius": 30.0, "rotation": 0.4}
    dx, dy = RNG.normal(size=(2, 20, 25))

    def loss(parameter):
        x, y = stn.maps.swirl((20, 25), **given | {name: parameter})
        return (x * dx + y * dy).sum()

    check_gradient(loss, stn.maps.swirl_vjp(dx, dy, (20, 25), **given)[name], given[name])


@pytest.mark.parametrize("focal", [30.0, (30.0, 25.0)])
@pytest.mark.parametrize("name", ["coefficients", "focal", "center"])
def test_gradients_of_lenses(name, focal):
    given = {"coefficients": (0.2, -0.1, 0.05), "focal": focal, "center": (11.0, 9.5)}
    dx, dy = RNG.normal(size=(2, 20, 25))

    def loss(parameter):
        x, y = stn.maps.undistort((20, 25), **given | {name: parameter})
        return (x * dx + y * dy).sum()

    check_gradient(loss, stn.maps.undistort_vjp(dx, dy, (20, 25), **given)[name], given[name])


def test_gradients_of_meshes():
    points, targets = mesh()
    points = 0.8 * points + 5  # so that there are pixels outside
    dx, dy = RNG.normal(size=(2, 90, 120))

    def loss(parameter):
        x, y = stn.maps.piecewise_affine((90, 120), points, parameter)
        return np.nansum(x * dx + y * dy)

    check_gradient(loss, stn.maps.piecewise_affine_vjp(dx, dy, points, targets), targets)


# --- Volumes --------------------------------------------------------------------------------------


def test_matrices_of_volumes_against_scipy():
    volume = ndimage.gaussian_filter(RNG.random((12, 14, 16)), 1)
    matrix = np.eye(3) + RNG.normal(0, 0.1, (3, 3))
    offset = RNG.normal(0, 1, 3)
    ours = stn.matrices_3d.from_scipy(matrix, offset)
    found = stn.matrices_3d.to_scipy(ours)
    np.testing.assert_allclose(found[0], matrix, atol=1e-12)
    np.testing.assert_allclose(found[1], offset, atol=1e-12)
    for size in ((12, 14, 16), (7, 9, 11)):
        expected = ndimage.affine_transform(volume, matrix, offset, output_shape=size, order=1,
                                            mode="grid-constant")  # fmt: skip
        for align_corners in (False, True):
            theta = stn.matrices_3d.to_theta(ours, size, volume.shape, align_corners=align_corners)
            warped = stn.warp_affine(volume[None, None], theta[None], size,
                                     align_corners=align_corners)[0, 0]  # fmt: skip
            np.testing.assert_allclose(warped, expected, atol=1e-9)
            back = stn.matrices_3d.from_theta(theta, size, volume.shape,
                                              align_corners=align_corners)  # fmt: skip
            np.testing.assert_allclose(back, ours, atol=1e-12)


def rotation(axis, degrees):
    return np.roll(np.roll(np.array([
        [np.cos(np.radians(degrees)), -np.sin(np.radians(degrees)), 0],
        [np.sin(np.radians(degrees)), np.cos(np.radians(degrees)), 0], [0, 0, 1],
    ]), axis, 0), axis, 1)  # fmt: skip


def test_simpleitk_by_its_definition():
    """A voxel is at origin + direction (spacing index); T(x) = A (x - c) + c + t in LPS+.

    https://simpleitk.readthedocs.io/en/master/fundamentalConcepts.html
    """
    fixed = stn.matrices_3d.Geometry((5, -3, 2), (0.5, 0.7, 2), rotation(0, 20).ravel())
    moving = stn.matrices_3d.Geometry((-9, 4, 1), (1.5, 1.2, 0.9), rotation(1, -35).ravel())
    a, t, c = rotation(2, 15) * 1.1, np.array([1.0, 2, 3]), np.array([10.0, -20, 30])
    ours = stn.matrices_3d.from_simpleitk(a.ravel(), t, c, fixed=fixed, moving=moving)
    for index in RNG.uniform(0, 50, (5, 3)):
        point = fixed.origin + rotation(0, 20) @ (np.array(fixed.spacing) * index)
        there = a @ (point - c) + c + t
        expected = np.linalg.solve(rotation(1, -35), there - moving.origin) / moving.spacing
        np.testing.assert_allclose(stn.transform_points(ours, index[None])[0], expected)
    matrix, translation = stn.matrices_3d.to_simpleitk(ours, fixed=fixed, moving=moving)
    np.testing.assert_allclose(matrix.reshape(3, 3), a, atol=1e-12)
    np.testing.assert_allclose(translation, t + c - a @ c, atol=1e-12)


def test_nibabel_by_its_definition():
    """An affine maps (i, j, k) to RAS+ millimetres: https://nipy.org/nibabel/coordinate_systems.html.

    A gradient along each world axis looks the same on any voxels.
    """
    moving, fixed = np.eye(4), np.eye(4)
    moving[:3, :3], moving[:3, 3] = rotation(0, 10) * [2, 1.5, 1], (-10, -12, -8)
    fixed[:3, :3], fixed[:3, 3] = rotation(2, 25) * [1, 1, 1.2], (-2, -1, 0)
    index = np.stack(np.meshgrid(*map(np.arange, (14, 16, 18)), indexing="ij"), -1)
    for axis in range(3):
        volume = (index @ moving[:3, :3].T + moving[:3, 3])[..., axis]
        ours = stn.matrices_3d.from_nibabel(fixed, moving)
        size = (4, 5, 6)
        theta = stn.matrices_3d.to_theta(ours, size, volume.shape)
        found = stn.warp_affine(volume[None, None], theta[None], size)[0, 0]
        expected = (index[:4, :5, :6] @ fixed[:3, :3].T + fixed[:3, 3])[..., axis]
        np.testing.assert_allclose(found, expected, atol=1e-9)
    np.testing.assert_allclose(stn.matrices_3d.to_nibabel(ours, moving), fixed, atol=1e-12)
    shift = np.eye(4)
    shift[0, 3] = 3
    ours = stn.matrices_3d.from_nibabel(np.eye(4), np.eye(4), shift)
    assert stn.transform_points(ours, [[0, 0, 0]]).tolist() == [[0, 0, 3]]  # i is z


@pytest.mark.parametrize(("call", "message"), [
    (lambda m: m.to_scipy(np.eye(3)), r"matrix: expected shape \(3, 4\) or \(4, 4\), got \(3, 3\)"),
    (lambda m: m.from_scipy(np.eye(3), (1, 2)), "offset: expected a number, or three"),
    (lambda m: m.from_nibabel(np.eye(4), np.zeros((4, 4))), "moving: expected an affine matrix"),
    (lambda m: m.from_nibabel(np.eye(4), np.diag([1, 1, 0, 1])), "moving: expected a matrix with"),
    (lambda m: m.from_simpleitk(np.eye(2)), "matrix: expected 9 numbers"),
    (lambda m: m.to_simpleitk(np.eye(4), fixed=m.Geometry(spacing=(1, 1))), "geometry: expected"),
    (lambda m: m.to_theta(np.eye(4), (4, 4), (4, 4, 4)), "size: expected three positive integers"),
    (lambda m: m.to_theta(np.eye(4), (1, 4, 4), (1, 4, 4), align_corners=True), "image_size: "),
])  # fmt: skip
def test_bad_matrices_of_volumes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(stn.matrices_3d)
