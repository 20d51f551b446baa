"""Rows of other samplers than bilinear: modes, volumes, projective maps and layouts."""

from functools import partial
from typing import Any, NamedTuple

import numpy as np

from . import images, warps
from .rows import COARSE, ROUNDING, MissingError, Row, Runner, peer_module, stn_function

# Where a coordinate is near a tie of two pixels, rounding decides which one is the nearest, and the
# samples differ as much as these pixels do.
NEAREST_TOLERANCE = 0.5

CV2 = {"nearest": "INTER_NEAREST", "bilinear": "INTER_LINEAR", "bicubic": "INTER_CUBIC",
       "lanczos4": "INTER_LANCZOS4"}  # fmt: skip
TORCH = ("nearest", "bilinear", "bicubic")


class VolumeProblem(NamedTuple):
    """Volumes, and a map for each."""

    images: Any
    theta: Any


# --- Modes ----------------------------------------------------------------------------------------


def stn_warp(p, **options):
    """warp_affine of numba_stn into an existing array."""
    out = np.empty_like(p.images)
    run = partial(stn_function("warp_affine"), p.images, p.theta, out=out, **options)
    tolerance = NEAREST_TOLERANCE if options.get("mode") == "nearest" else ROUNDING
    return Runner(run, _samples, tolerance)


def torch_warp(p, mode="bilinear", layout=None):
    """PyTorch's affine_grid and grid_sample; with a layout, the channels are the last axis."""
    torch = peer_module("torch")
    functional = torch.nn.functional
    if mode not in TORCH:
        raise MissingError(f"PyTorch has no {mode}")
    given, theta = torch.as_tensor(p.images), torch.as_tensor(p.theta)
    if layout:
        given = given.permute(0, 3, 1, 2)  # this is torch.channels_last

    def run():
        with torch.no_grad():
            grid = functional.affine_grid(theta, given.shape, align_corners=False)
            return functional.grid_sample(given, grid, mode=mode, align_corners=False)

    def read(samples):
        return _samples(samples.permute(0, 2, 3, 1) if layout else samples)

    return Runner(run, read, NEAREST_TOLERANCE if mode == "nearest" else ROUNDING)


def cv2_warp(p, mode):
    """OpenCV's warpAffine, in its own layout (H, W, C)."""
    cv2, image = peer_module("cv2"), warps.one_image(p.images)
    if mode not in CV2:
        raise MissingError(f"OpenCV has no {mode}")
    matrix = warps.pixel_matrix(p.theta[0], *p.images.shape[2:])
    flags = getattr(cv2, CV2[mode]) | cv2.WARP_INVERSE_MAP
    out, sides = np.empty_like(image), image.shape[1::-1]
    run = partial(cv2.warpAffine, image, matrix, sides, out, flags=flags)
    return Runner(run, warps.batched, NEAREST_TOLERANCE if mode == "nearest" else 2 * COARSE)


def mode_row(mode, *shape):
    """Row: images warped by affine maps in a mode."""
    makers: dict[str, Any] = {"ours": stn_warp, "torch": torch_warp, "cv2": cv2_warp}
    return Row(
        "modes",
        partial(warps.problem, shape),
        {who: partial(make, mode=mode) for who, make in makers.items()},
    )


def spline_row(*shape):
    """Row: images warped by affine maps, interpolated by cubic B-splines."""
    makers: dict[str, Any] = {"ours": partial(stn_warp, mode="spline3"), "scipy": scipy_spline}
    return Row("modes", partial(warps.problem, shape), makers)


def scipy_spline(p):
    """SciPy's affine_transform of order 3 with its prefilter, one channel at a time."""
    transform, image = peer_module("scipy.ndimage").affine_transform, warps.one_image(p.images)
    matrix = warps.pixel_matrix(p.theta[0], *p.images.shape[2:])[::-1, [1, 0, 2]]
    planes = [np.ascontiguousarray(plane) for plane in image.transpose(2, 0, 1)]
    out = np.empty((len(planes), *planes[0].shape), image.dtype)

    def run():
        for plane, result in zip(planes, out, strict=True):
            transform(plane, matrix[:, :2], matrix[:, 2], output=result, mode="grid-constant")
        return out

    # SciPy prefilters as if the image were mirrored, and ours as if it were surrounded by zeros.
    return Runner(run, lambda out: {"samples": out[None]}, 0.05)


def image_mode_row(mode):
    """Row: warp_image of a uint8 image in a mode."""

    def stn(p):
        out = np.empty_like(p.image)
        run = partial(stn_function("warp_image"), p.image, p.matrix, mode=mode, out=out)
        return Runner(run, warps.batched)

    def cv2(p):
        library = peer_module("cv2")
        flags = getattr(library, CV2[mode]) | library.WARP_INVERSE_MAP
        sides, out = p.image.shape[1::-1], np.empty_like(p.image)
        run = partial(library.warpAffine, p.image, p.matrix, sides, out, flags=flags)
        tolerance = NEAREST_TOLERANCE if mode == "nearest" else 2 * COARSE
        return Runner(run, warps.batched, tolerance)

    problem = partial(images.problem, "uint8", 1080, 1920)
    makers: dict[str, Any] = {"ours": stn, "cv2": cv2}
    return Row("modes", problem, makers)


# --- Channels last --------------------------------------------------------------------------------


def channels_last_row(*shape):
    """Row: images (N, H, W, C) warped by affine maps."""

    def problem():
        p = warps.problem(shape)
        return p._replace(images=np.ascontiguousarray(p.images.transpose(0, 2, 3, 1)))

    makers: dict[str, Any] = {"ours": stn_warp, "torch": torch_warp}
    made = {who: partial(make, layout="NHWC") for who, make in makers.items()}
    return Row("modes", problem, made)


# --- Projective maps ------------------------------------------------------------------------------


def perspective_problem(shape):
    """Smooth random images, and one projective map for all of them."""
    p = warps.problem(shape)
    last = np.tile(np.array([[[0.05, -0.1, 1]]], np.float32), (len(p.theta), 1, 1))
    return p._replace(theta=np.concatenate([p.theta, last], axis=1))


def perspective_row(*shape):
    """Row: images warped by projective maps."""

    def stn(p):
        out = np.empty_like(p.images)
        run = partial(stn_function("warp_perspective"), p.images, p.theta, out=out)
        return Runner(run, _samples)

    def pixel_matrix(p):
        height, width = p.images.shape[2:]
        unit = [[2 / width, 0, 1 / width - 1], [0, 2 / height, 1 / height - 1], [0, 0, 1]]
        return np.linalg.inv(unit) @ p.theta[0].astype(float) @ np.array(unit)

    def cv2(p):
        library, image = peer_module("cv2"), warps.one_image(p.images)
        flags, sides = library.INTER_LINEAR | library.WARP_INVERSE_MAP, image.shape[1::-1]
        run = partial(library.warpPerspective, image, pixel_matrix(p), sides, np.empty_like(image),
                      flags=flags)  # fmt: skip
        return Runner(run, warps.batched, COARSE)

    def kornia(p):
        torch = peer_module("torch")
        warp = peer_module("kornia").geometry.transform.warp_perspective
        given = torch.from_numpy(p.images)
        inverse = np.linalg.inv(pixel_matrix(p)).astype(np.float32)[None].repeat(len(p.theta), 0)
        matrices = torch.from_numpy(inverse)

        def run():
            with torch.no_grad():
                return warp(given, matrices, given.shape[2:], align_corners=True)

        return Runner(run, _samples)

    makers: dict[str, Any] = {"ours": stn, "cv2": cv2, "kornia": kornia}
    return Row("modes", partial(perspective_problem, shape), makers)


# --- Volumes --------------------------------------------------------------------------------------


def volume_problem(side):
    """A smooth random volume, and a map that rotates and shrinks it."""
    p = warps.problem((1, side, side, side))
    theta = [[0.7, -0.3, 0.1, 0.01], [0.3, 0.7, 0.1, 0.02], [-0.1, 0.1, 0.8, 0.0]]
    return VolumeProblem(p.images[:, None], np.array([theta], np.float32))


def scipy_volume(p):
    """SciPy's affine_transform of one volume, z before y before x."""
    transform, given = peer_module("scipy.ndimage").affine_transform, p.images[0, 0]
    if len(set(given.shape)) > 1:
        raise MissingError("expected a cube, for one matrix in pixels")
    linear, center = p.theta[0, ::-1, 2::-1].astype(float), (given.shape[0] - 1) / 2
    shift = p.theta[0, ::-1, 3] * given.shape[0] / 2 + center - linear.sum(axis=1) * center
    out = np.empty_like(given)
    run = partial(transform, given, linear, shift, output=out, order=1, mode="grid-constant")
    return Runner(run, lambda out: {"samples": out[None, None]})


def volume_row(side):
    """Row: a volume warped by an affine map."""
    makers: dict[str, Any] = {"ours": stn_warp, "torch": torch_warp, "scipy": scipy_volume}
    return Row("modes", partial(volume_problem, side), makers)


def _samples(samples):
    return {"samples": np.asarray(samples)}


ROWS = {
    "nearest 1x3x1080x1920": mode_row("nearest", 1, 3, 1080, 1920),
    "bicubic 1x3x1080x1920": mode_row("bicubic", 1, 3, 1080, 1920),
    "lanczos4 1x3x1080x1920": mode_row("lanczos4", 1, 3, 1080, 1920),
    "spline3 1x3x1080x1920": spline_row(1, 3, 1080, 1920),
    "volume 1x1x128x128x128": volume_row(128),
    "perspective 1x3x1080x1920": perspective_row(1, 3, 1080, 1920),
    "channels last 1x540x960x32": channels_last_row(1, 32, 540, 960),
    "warp_image nearest uint8 1080x1920x3": image_mode_row("nearest"),
    "warp_image bicubic uint8 1080x1920x3": image_mode_row("bicubic"),
}
