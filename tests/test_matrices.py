"""Matrices of other libraries: their own results, the identity, a shift by one pixel."""

import numpy as np
import pytest
from scipy import ndimage

import numba_stn as stn
from numba_stn.transforms import matrices

AFFINE = np.array([[0.9, 0.3, -4.25], [-0.2, 1.1, 3.75]])
PROJECTIVE = np.vstack([AFFINE, [0.002, -0.001, 1.0]])
SHIFT = np.array([[1.0, 0, 1], [0, 1, 0]])  # samples one pixel further right
IMAGE_SIZE, SIZE = (40, 60), (33, 71)


def picture(shape=IMAGE_SIZE):
    return ndimage.gaussian_filter(np.random.default_rng(0).random(shape), 1.0)


def inner(image, margin=8):
    """Without the border, where libraries' rules differ."""
    return image[margin:-margin, margin:-margin]


def test_the_identity_stays_the_identity():
    eye = np.eye(2, 3)
    np.testing.assert_array_equal(matrices.from_opencv(eye), eye)
    np.testing.assert_array_equal(matrices.from_skimage(np.eye(3)), eye)
    np.testing.assert_array_equal(matrices.from_scipy(np.eye(2)), eye)
    for corners in (False, True):
        theta = matrices.from_theta(eye, SIZE, SIZE, align_corners=corners)
        np.testing.assert_allclose(theta, eye, atol=1e-15)


def test_a_shift_of_one_pixel():
    """Ours samples one pixel further right: OpenCV moves the image left, SciPy has columns."""
    np.testing.assert_array_equal(matrices.to_opencv(SHIFT), [[1, 0, -1], [0, 1, 0]])
    np.testing.assert_array_equal(matrices.to_skimage(SHIFT), [*SHIFT.tolist(), [0, 0, 1]])
    matrix, offset = matrices.to_scipy(SHIFT)
    np.testing.assert_array_equal(matrix, np.eye(2))
    np.testing.assert_array_equal(offset, [0, 1])
    theta = matrices.to_theta(SHIFT, (5, 9), (5, 9))
    np.testing.assert_allclose(theta, [[1, 0, 2 / 9], [0, 1, 0]], atol=1e-15)
    theta = matrices.to_theta(SHIFT, (5, 9), (5, 9), align_corners=True)
    np.testing.assert_allclose(theta, [[1, 0, 2 / 8], [0, 1, 0]], atol=1e-15)


@pytest.mark.parametrize("matrix", [AFFINE, PROJECTIVE], ids=["affine", "projective"])
def test_there_and_back(matrix):
    np.testing.assert_allclose(matrices.from_opencv(matrices.to_opencv(matrix)) * matrix[-1, -1],
                               matrix * matrices.from_opencv(matrices.to_opencv(matrix))[-1, -1],
                               rtol=1e-12, atol=1e-12)  # fmt: skip
    np.testing.assert_array_equal(matrices.from_skimage(matrices.to_skimage(matrix)), matrix)
    for corners in (False, True):
        theta = matrices.to_theta(matrix, SIZE, IMAGE_SIZE, align_corners=corners)
        back = matrices.from_theta(theta, SIZE, IMAGE_SIZE, align_corners=corners)
        np.testing.assert_allclose(back, matrix, rtol=1e-12, atol=1e-12)


def test_scipy_there_and_back():
    np.testing.assert_allclose(matrices.from_scipy(*matrices.to_scipy(AFFINE)), AFFINE)
    matrix, offset = matrices.to_scipy(AFFINE)
    whole = np.vstack([np.column_stack([matrix, offset]), [0, 0, 1]])
    np.testing.assert_allclose(matrices.from_scipy(whole), AFFINE)
    np.testing.assert_allclose(matrices.from_scipy(whole[:2], offset=99), AFFINE)
    np.testing.assert_array_equal(matrices.from_scipy([2, 3], 1), [[3, 0, 1], [0, 2, 1]])


@pytest.mark.parametrize("scale", [-2, 0.5, [[[4]], [[-0.1]]]], ids=str)
def test_a_multiple_of_an_affine_matrix_is_the_same_map(scale):
    whole = scale * np.vstack([AFFINE, [0, 0, 1]])  # the last one is a stack, of two multiples
    theta = matrices.to_theta(AFFINE, SIZE, IMAGE_SIZE)
    for found, want in (
        (matrices.from_skimage(whole), AFFINE),
        (matrices.from_opencv(whole), matrices.from_opencv(AFFINE)),
        (matrices.to_theta(whole, SIZE, IMAGE_SIZE), theta),
        (matrices.from_theta(scale * np.vstack([theta, [0, 0, 1]]), SIZE, IMAGE_SIZE), AFFINE),
        (matrices.from_scipy(whole), matrices.from_scipy(AFFINE)),
        (matrices.to_scipy(whole)[0], matrices.to_scipy(AFFINE)[0]),
        (matrices.to_scipy(whole)[1], matrices.to_scipy(AFFINE)[1]),
    ):
        assert found.shape[-want.ndim :] == want.shape
        np.testing.assert_allclose(found, np.broadcast_to(want, found.shape), rtol=1e-12)


def test_stacks():
    stack = np.stack([AFFINE, SHIFT])
    for there in (matrices.to_opencv, matrices.to_skimage):
        np.testing.assert_allclose(there(stack)[1], there(SHIFT))
    np.testing.assert_allclose(
        matrices.to_theta(stack, SIZE, IMAGE_SIZE)[0], matrices.to_theta(AFFINE, SIZE, IMAGE_SIZE)
    )
    matrix, offset = matrices.to_scipy(stack)
    np.testing.assert_allclose(matrices.from_scipy(matrix, offset), stack)


@pytest.mark.parametrize("align_corners", [False, True])
def test_theta_against_warp_affine(align_corners):
    image = picture()
    theta = np.array([[0.7, 0.2, 0.1], [-0.3, 0.8, -0.2]])
    matrix = matrices.from_theta(theta, SIZE, IMAGE_SIZE, align_corners=align_corners)
    want = stn.warp_affine(
        image[None, None], theta[None], SIZE, align_corners=align_corners
    )[0, 0]  # fmt: skip
    np.testing.assert_allclose(stn.warp_image(image, matrix, SIZE), want, rtol=0, atol=1e-12)


def test_against_scipy():
    image = picture()
    matrix, offset = matrices.to_scipy(AFFINE)
    theirs = ndimage.affine_transform(image, matrix, offset, output_shape=SIZE, order=1)
    ours = stn.warp_image(image, AFFINE, SIZE)
    reached = stn.warp_image(np.ones_like(image), AFFINE, SIZE) == 1  # samples without outside taps
    assert reached.sum() > 1000
    np.testing.assert_allclose(ours[reached], theirs[reached], rtol=0, atol=1e-12)


@pytest.mark.parametrize("matrix", [AFFINE, PROJECTIVE], ids=["affine", "projective"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_against_opencv(matrix, dtype):
    cv2 = pytest.importorskip("cv2")
    image = (picture((200, 300, 3)) * 255).astype(dtype)
    warp = cv2.warpAffine if len(matrix) == 2 else cv2.warpPerspective
    theirs = warp(image, matrices.to_opencv(matrix), (280, 190), flags=cv2.INTER_LINEAR)
    ours = stn.warp_image(image, matrix, (190, 280))
    reached = stn.warp_image(np.ones(image.shape), matrix, (190, 280)) == 1
    apart = np.abs(ours.astype(float) - theirs)[reached]
    # OpenCV's fractions are float32; this image's slopes are about 50 grey levels per pixel.
    assert apart.max() <= (1 if dtype == "uint8" else 0.02)


@pytest.mark.parametrize("matrix", [AFFINE, PROJECTIVE], ids=["affine", "projective"])
def test_against_skimage_on_a_photograph(matrix):
    transform = pytest.importorskip("skimage.transform")
    data = pytest.importorskip("skimage.data")
    image = data.camera().astype(np.float32) / 255
    theirs = transform.warp(image, matrices.to_skimage(matrix), order=1, output_shape=(400, 500))
    ours = stn.warp_image(image, matrix, (400, 500))
    np.testing.assert_allclose(inner(ours), inner(theirs), rtol=0, atol=1e-4)
    kind = transform.ProjectiveTransform if len(matrix) == 3 else transform.AffineTransform
    given = kind(matrix=matrices.to_skimage(matrix))
    np.testing.assert_allclose(matrices.from_skimage(given), matrix)


WRONG = {
    r"matrix: expected shape \(..., 2, 3\)": lambda: matrices.from_opencv(np.eye(2)),
    "matrix: expected a matrix with an inverse": lambda: matrices.from_opencv(np.zeros((2, 3))),
    "matrix: expected finite": lambda: matrices.to_skimage(np.full((2, 3), np.nan)),
    "matrix: expected an affine matrix": lambda: matrices.to_scipy(PROJECTIVE),
    "offset: expected a number": lambda: matrices.from_scipy(np.eye(2), (1, 2, 3)),
    "align_corners: expected sides": lambda: matrices.to_theta(
        AFFINE, (1, 4), (4, 4), align_corners=True
    ),
}


@pytest.mark.parametrize("message", WRONG)
def test_a_wrong_argument_is_named(message):
    with pytest.raises(ValueError, match=message):
        WRONG[message]()
    with pytest.raises(TypeError, match="matrix: expected numbers"):
        matrices.from_opencv("a matrix")


def test_four_points_map_to_their_images():
    rng = np.random.default_rng(1)
    square = np.array([[-1.0, -1], [1, -1], [-1, 1], [1, 1]])
    points, images = square + 0.3 * rng.standard_normal((2, 5, 4, 2))
    found = matrices.from_points(points, images)
    u, v, w = np.moveaxis(found @ np.concatenate([points, np.ones((5, 4, 1))], -1).swapaxes(1, 2),
                          1, 0)  # fmt: skip
    np.testing.assert_allclose(np.stack([u / w, v / w], -1), images, atol=1e-12)
    np.testing.assert_array_equal(found[:, 2, 2], 1)
    np.testing.assert_allclose(matrices.from_points(points[0], images[0]), found[0], rtol=1e-12)


def test_four_points_as_opencv():
    cv2 = pytest.importorskip("cv2")
    points, images = (
        np.float32([[0, 0], [9, 1], [8, 7], [1, 9]]),
        np.float32([[2, 1], [7, 0], [9, 9], [0, 8]]),
    )
    np.testing.assert_allclose(
        matrices.from_points(points, images), cv2.getPerspectiveTransform(points, images), atol=1e-6
    )


def test_bad_points_are_named():
    square = [[0, 0], [1, 0], [0, 1], [1, 1]]
    with pytest.raises(ValueError, match=r"images: expected four points .*\(3, 2\)"):
        matrices.from_points(square, square[:3])
    for line in ([[0, 0], [1, 1], [2, 2], [5, 0]], [[0, 0], [0, 0], [1, 0], [0, 1]]):
        with pytest.raises(ValueError, match="points: .*no three lie on a line"):
            matrices.from_points(line, square)
        with pytest.raises(ValueError, match="images: .*no three lie on a line"):
            matrices.from_points([square, square], [square, line])
