"""Real photographs, warped by us and by OpenCV, scikit-image, SciPy, PyTorch, kornia and Pillow.

Results agree to 1 grey level of uint8 and to 1e-4 of float32 in [0, 1], away from the borders,
where libraries' rules differ. A library with larger rounding errors gets float64, as noted there.
The photographs come with scikit-image; a test that would have to download one is skipped.
"""

import functools
import itertools
import pathlib

import numpy as np
import plain_images as plain
import pytest
from scipy import ndimage

import numba_stn as stn
from numba_stn.transforms import matrices

PHOTOGRAPHS = ["coffee", "camera"]  # in colour, and grey
AFFINE = np.array([[0.9, 0.3, -4.25], [-0.2, 1.1, 3.75]])
PROJECTIVE = np.vstack([AFFINE, [2e-4, -1e-4, 1.0]])
SHAPE = (390, 520)
cases = pytest.mark.parametrize("photo", [*itertools.product(PHOTOGRAPHS, ["uint8", "float32"])],
                                ids="-".join, indirect=True)  # fmt: skip


@pytest.fixture(autouse=True)
def _serial(monkeypatch):
    """Use the variant of each kernel that small images of other tests have compiled."""
    monkeypatch.setattr("numba_stn.kernels.cpu_launch.PARALLEL_WORK", 10**12)


@functools.cache
def load(name):
    skimage = pytest.importorskip("skimage")
    data = pytest.importorskip("skimage.data")
    if not (pathlib.Path(skimage.__file__).parent / "data" / f"{name}.png").exists():
        pytest.skip(f"this scikit-image comes without {name}")
    return getattr(data, name)()


@pytest.fixture
def photo(request):
    name, dtype = request.param
    image = load(name)
    return image if dtype == "uint8" else (image / np.float32(255)).astype(np.float32)


def agree(ours, theirs, where):
    """Check that the difference is within the limit wherever ``where`` is True."""
    assert where.mean() > 0.2
    limit = 1 if ours.dtype == np.uint8 else 1e-4
    assert ours.shape == theirs.shape
    assert np.abs(ours.astype(float) - theirs)[where].max() <= limit


def tensor(image, dtype):
    """An image as PyTorch and kornia take it, (1, C, H, W)."""
    torch = pytest.importorskip("torch")
    planes = np.moveaxis(np.atleast_3d(image), 2, 0)[None].astype(dtype)
    return torch.tensor(planes)


def from_tensor(tensor, like):
    return np.moveaxis(tensor[0].numpy(), 0, 2).reshape(*tensor.shape[2:], *like.shape[2:])


def planes(function, image):
    """Apply a function of SciPy to each channel."""
    if image.ndim == 2:
        return function(image)
    return np.stack([function(image[..., c]) for c in range(image.shape[2])], -1)


# --- warp_image and the converters ----------------------------------------------------------------


def cv2_warp(image, matrix, shape):
    cv2 = pytest.importorskip("cv2")
    warp = cv2.warpAffine if len(matrix) == 2 else cv2.warpPerspective
    return warp(image, matrices.to_opencv(matrix), shape[::-1], flags=cv2.INTER_LINEAR)


def cv2_inverse_warp(image, matrix, shape):
    cv2 = pytest.importorskip("cv2")
    warp = cv2.warpAffine if len(matrix) == 2 else cv2.warpPerspective
    return warp(image, matrix, shape[::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)


def skimage_warp(image, matrix, shape):
    transform = pytest.importorskip("skimage.transform")
    inverse_map = matrices.to_skimage(matrix)
    return transform.warp(image, inverse_map, order=1, output_shape=shape, preserve_range=True)


def scipy_warp(image, matrix, shape):
    if len(matrix) == 3:
        pytest.skip("SciPy has no projective warp")
    linear, offset = matrices.to_scipy(matrix)
    return planes(
        lambda plane: ndimage.affine_transform(plane, linear, offset, output_shape=shape, order=1),
        image,
    )


def torch_warp(image, matrix, shape, align_corners):
    if len(matrix) == 3:
        pytest.skip("PyTorch has no projective grid")
    torch = pytest.importorskip("torch")
    f = torch.nn.functional
    theta = matrices.to_theta(matrix, shape, image.shape[:2], align_corners=align_corners)
    theta = torch.tensor(theta[None].astype("float32"))
    grid = f.affine_grid(theta, [1, 1, *shape], align_corners=align_corners)
    warped = f.grid_sample(tensor(image, "float32"), grid, align_corners=align_corners)
    return from_tensor(warped, image)


def kornia_warp(image, matrix, shape):
    """In float64; in float32, kornia's coordinates cause errors of up to 1.2e-4 here."""
    torch = pytest.importorskip("torch")
    geometry = pytest.importorskip("kornia.geometry.transform")
    warp = geometry.warp_affine if len(matrix) == 2 else geometry.warp_perspective
    forward = torch.tensor(matrices.to_opencv(matrix))[None]
    return from_tensor(warp(tensor(image, "float64"), forward, shape), image)


WARPS = {
    "oracle": lambda image, matrix, shape: plain.bilinear(
        image, *plain.warped_positions(matrix, shape)
    ),
    "cv2": cv2_warp,
    "cv2 inverse": cv2_inverse_warp,
    "skimage": skimage_warp,
    "scipy": scipy_warp,
    "torch": functools.partial(torch_warp, align_corners=False),
    "torch corners": functools.partial(torch_warp, align_corners=True),
    "kornia": kornia_warp,
}


@cases
@pytest.mark.parametrize("peer", WARPS)
@pytest.mark.parametrize("matrix", [AFFINE, PROJECTIVE], ids=["affine", "projective"])
def test_warp_image(photo, peer, matrix):
    positions = plain.warped_positions(matrix, SHAPE)
    inner = plain.is_inside(positions, photo.shape[:2], 1)
    agree(stn.warp_image(photo, matrix, SHAPE), WARPS[peer](photo, matrix, SHAPE), inner)


@cases
@pytest.mark.parametrize("peer", WARPS)
def test_the_identity_and_a_shift_by_one_pixel(photo, peer):
    """Each library shifts when given the converted matrix; our result is exact."""
    sides, atol = photo.shape[:2], 1e-4 if photo.dtype == np.float32 else 0.1
    for x, y in ((0, 0), (1, 0), (0, 1)):  # samples x pixels further right, y down
        matrix = np.array([[1.0, 0, x], [0, 1, y]])
        want = photo[y:, x:]
        np.testing.assert_array_equal(
            stn.warp_image(photo, matrix)[: len(want), : want.shape[1]], want
        )
        theirs = WARPS[peer](photo, matrix, sides)[: len(want), : want.shape[1]]
        np.testing.assert_allclose(theirs, want, rtol=0, atol=atol)


@cases
def test_matrices_of_other_libraries(photo):
    """A shift by 30 pixels right and 20 down, as each library's users write it."""
    height, width = photo.shape[:2]
    written = {
        "cv2": matrices.from_opencv([[1, 0, 30], [0, 1, 20]]),
        "skimage": matrices.from_skimage([[1, 0, -30], [0, 1, -20], [0, 0, 1]]),
        "scipy": matrices.from_scipy([1, 1], (-20, -30)),
        "torch": matrices.from_theta(
            [[1, 0, -60 / width], [0, 1, -40 / height]], (height, width), (height, width)
        ),
    }
    for name, matrix in written.items():
        found = stn.warp_image(photo, matrix)
        atol = 1e-6 if photo.dtype == np.float32 else 0
        np.testing.assert_allclose(
            found[20:, 30:], photo[:-20, :-30], rtol=0, atol=atol, err_msg=name
        )
        assert not found[:19].any()
        assert not found[:, :29].any()


def test_skimage_transforms_are_accepted():
    transform = pytest.importorskip("skimage.transform")
    image = load("camera")
    similarity = transform.SimilarityTransform(scale=1.2, rotation=0.3, translation=(-60, 40))
    theirs = transform.warp(image, similarity.inverse, order=1, preserve_range=True)
    matrix = matrices.from_skimage(similarity.inverse)
    inner = plain.is_inside(plain.warped_positions(matrix, image.shape), image.shape, 1)
    agree(stn.warp_image(image, matrix), theirs, inner)


# --- rotate ---------------------------------------------------------------------------------------


def cv2_rotate(image, degrees, center, zoom):
    cv2 = pytest.importorskip("cv2")
    matrix = cv2.getRotationMatrix2D(center, degrees, zoom)
    return cv2.warpAffine(image, matrix, image.shape[1::-1])


def skimage_rotate(image, degrees, center, zoom):
    if zoom != 1:
        pytest.skip("scikit-image rotates without a zoom")
    transform = pytest.importorskip("skimage.transform")
    return transform.rotate(image, degrees, center=center, order=1, preserve_range=True)


def scipy_rotate(image, degrees, center, zoom):
    if zoom != 1:
        pytest.skip("SciPy rotates about the centre, without a zoom")
    return ndimage.rotate(image, degrees, reshape=False, order=1, mode="grid-constant")


def kornia_rotate(image, degrees, center, zoom):
    torch = pytest.importorskip("torch")
    geometry = pytest.importorskip("kornia.geometry.transform")
    center = torch.tensor([center], dtype=torch.float32)
    if zoom == 1:
        rotated = geometry.rotate(tensor(image, "float32"), torch.tensor([float(degrees)]), center)
    else:
        matrix = geometry.get_rotation_matrix2d(
            center, torch.tensor([float(degrees)]), torch.tensor([[zoom, zoom]])
        )
        rotated = geometry.warp_affine(tensor(image, "float32"), matrix, image.shape[:2])
    return from_tensor(rotated, image)


ROTATIONS = {
    "oracle": lambda image, *how: plain.bilinear(
        image, *plain.rotated_positions(image.shape[:2], *how)
    ),
    "cv2": cv2_rotate,
    "skimage": skimage_rotate,
    "scipy": scipy_rotate,
    "kornia": kornia_rotate,
}


@cases
@pytest.mark.parametrize("peer", ROTATIONS)
@pytest.mark.parametrize("zoom", [1.0, 1.3])
def test_rotate(photo, peer, zoom):
    height, width = photo.shape[:2]
    center = ((width - 1) / 2, (height - 1) / 2) if zoom == 1 else (100.25, 130.5)
    for degrees in (33.3, -120, 90):
        positions = plain.rotated_positions((height, width), degrees, center, zoom)
        ours = stn.rotate(photo, degrees, center=center, zoom=zoom)
        theirs = ROTATIONS[peer](photo, degrees, center, zoom)
        agree(ours, theirs, plain.is_inside(positions, (height, width), 1))


@cases
def test_rotate_on_a_canvas_that_grows(photo):
    """SciPy's canvas is the same if rounding to the nearest integer rounds up."""
    for degrees in (20, 45, 61, 90, 157):
        ours = stn.rotate(photo, degrees, expand=True)
        theirs = ndimage.rotate(photo, degrees, order=1, mode="grid-constant")
        assert all(0 <= a - b <= 1 for a, b in zip(ours.shape, theirs.shape, strict=True))
        positions = plain.rotated_positions(photo.shape[:2], degrees, shape=ours.shape[:2])
        inner = plain.is_inside(positions, photo.shape[:2], 1)
        agree(ours, plain.bilinear(photo, *positions), inner)
        if ours.shape == theirs.shape:
            agree(ours, theirs, inner)


# --- resize ---------------------------------------------------------------------------------------


def cv2_resize(image, shape):
    cv2 = pytest.importorskip("cv2")
    return cv2.resize(image, shape[::-1], interpolation=cv2.INTER_LINEAR)


def skimage_resize(image, shape):
    transform = pytest.importorskip("skimage.transform")
    return transform.resize(
        image, shape, order=1, mode="edge", anti_aliasing=False, preserve_range=True
    )


def scipy_resize(image, shape):
    zoom = (shape[0] / image.shape[0], shape[1] / image.shape[1], 1)[: image.ndim]
    return ndimage.zoom(image, zoom, order=1, mode="nearest", grid_mode=True)


def torch_resize(image, shape):
    f = pytest.importorskip("torch.nn.functional")
    chosen = {"mode": "bilinear", "align_corners": False}
    return from_tensor(f.interpolate(tensor(image, "float32"), shape, **chosen), image)


def kornia_resize(image, shape):
    geometry = pytest.importorskip("kornia.geometry.transform")
    return from_tensor(geometry.resize(tensor(image, "float32"), shape, align_corners=False), image)


RESIZES = {
    "oracle": lambda image, shape: plain.bilinear(
        image, *plain.cropped_positions((0, 0, image.shape[1], image.shape[0]), shape), "border"
    ),
    "cv2": cv2_resize,
    "skimage": skimage_resize,
    "scipy": scipy_resize,
    "torch": torch_resize,
    "kornia": kornia_resize,
}


@cases
@pytest.mark.parametrize("peer", RESIZES)
def test_resize(photo, peer):
    """At the borders too: all libraries repeat the border pixel."""
    height, width = photo.shape[:2]
    for shape in ((250, 333), (701, 1003), (100, 900), (height // 2, width // 2)):
        theirs = RESIZES[peer](photo, shape)
        agree(stn.resize(photo, shape), theirs, np.ones(shape, bool))


# --- crop_and_resize ------------------------------------------------------------------------------

BOXES = [(20.5, 30.25, 120.75, 99.5), (0, 0, 384, 300), (200, 100.5, 290, 180)]
ENLARGED = (320, 400)


def pillow_crops(image, boxes, shape):
    pil = pytest.importorskip("PIL.Image")
    if image.ndim == 3 and image.dtype == np.float32:
        pytest.skip("Pillow has no floating colours")
    whole = pil.fromarray(image)
    return np.stack([
        whole.resize(shape[::-1], pil.Resampling.BILINEAR, box=box) for box in boxes
    ])  # fmt: skip


def kornia_crops(image, boxes, shape):
    """kornia's boxes are given by the centres of corner pixels. In float64."""
    torch = pytest.importorskip("torch")
    geometry = pytest.importorskip("kornia.geometry.transform")
    x0, y0, x1, y1 = np.array(boxes).T
    rows, columns = shape
    dx, dy = (x1 - x0) / columns, (y1 - y0) / rows
    left, right, top, bottom = x0 + dx / 2, x1 - dx / 2, y0 + dy / 2, y1 - dy / 2
    corners = np.moveaxis([[left, top], [right, top], [right, bottom], [left, bottom]], 2, 0) - 0.5
    images = tensor(image, "float64").expand(len(boxes), -1, -1, -1)
    found = geometry.crop_and_resize(images, torch.tensor(corners), shape, padding_mode="border")
    return np.concatenate([from_tensor(crop[None], image)[None] for crop in found])


CROPS = {
    "oracle": lambda image, boxes, shape: np.stack(
        [plain.bilinear(image, *plain.cropped_positions(box, shape), "border") for box in boxes]
    ),
    "pillow": pillow_crops,
    "kornia": kornia_crops,
}


@cases
@pytest.mark.parametrize("peer", CROPS)
def test_crop_and_resize(photo, peer):
    ours = stn.crop_and_resize(photo, BOXES, ENLARGED)
    theirs = CROPS[peer](photo, BOXES, ENLARGED)
    agree(ours, theirs, np.ones(ours.shape[:3], bool))


@cases
def test_a_crop_is_a_resized_slice_away_from_its_edges(photo):
    found = stn.crop_and_resize(photo, (30, 40, 130, 90), (150, 300))
    sliced = stn.resize(np.ascontiguousarray(photo[40:90, 30:130]), (150, 300))
    agree(found[2:-2, 2:-2], sliced[2:-2, 2:-2], np.ones((146, 296), bool))
