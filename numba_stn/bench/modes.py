"""Rows of the samplers beside bilinear planes: other modes, volumes, projective maps, layouts."""

from functools import partial
from typing import Any, NamedTuple

import numpy as np

from . import images, warps
from .rows import COARSE, MissingError, Row, Runner, installed, own

# Samples of the nearest pixel differ where a coordinate's rounding takes the other one: anywhere
# near a tie, and by as much as neighbours do.
TIES = 0.5

CV2 = {"nearest": "INTER_NEAREST", "bilinear": "INTER_LINEAR", "bicubic": "INTER_CUBIC"}


class Volume(NamedTuple):
    """Volumes, and a map for each."""

    images: Any
    theta: Any


# --- Modes ----------------------------------------------------------------------------------------


def ours(p, **chosen):
    """warp_affine into an array that is there."""
    run = partial(own("warp_affine"), p.images, p.theta, out=np.empty_like(p.images), **chosen)
    return Runner(run, _samples, TIES if chosen.get("mode") == "nearest" else 1e-3)


def torch_warp(p, mode="bilinear", layout=None):
    """PyTorch's two calls; its channels may stand last."""
    torch = installed("torch")
    functional = torch.nn.functional
    given, theta = torch.as_tensor(p.images), torch.as_tensor(p.theta)
    if layout:
        given = given.permute(0, 3, 1, 2)  # which is torch.channels_last

    def run():
        with torch.no_grad():
            grid = functional.affine_grid(theta, given.shape, align_corners=False)
            return functional.grid_sample(given, grid, mode=mode, align_corners=False)

    def read(samples):
        return _samples(samples.permute(0, 2, 3, 1) if layout else samples)

    return Runner(run, read, TIES if mode == "nearest" else 1e-3)


def cv2_warp(p, mode):
    """OpenCV's warpAffine, on its own layout."""
    cv2, image = installed("cv2"), warps.one_image(p.images)
    matrix = warps.pixel_matrix(p.theta[0], *p.images.shape[2:])
    flags = getattr(cv2, CV2[mode]) | cv2.WARP_INVERSE_MAP
    out, sides = np.empty_like(image), image.shape[1::-1]
    run = partial(cv2.warpAffine, image, matrix, sides, out, flags=flags)
    return Runner(run, warps.batched, TIES if mode == "nearest" else 2 * COARSE)


def of_mode(mode, *shape):
    """Row: images warped by affine maps, in another mode."""
    makers: dict[str, Any] = {"ours": ours, "torch": torch_warp, "cv2": cv2_warp}
    return Row(
        "modes",
        partial(warps.problem, shape),
        {who: partial(make, mode=mode) for who, make in makers.items()},
    )


def of_picture(mode):
    """Row: warp_image of a picture of whole numbers, in another mode."""

    def ours(p):
        run = partial(own("warp_image"), p.image, p.matrix, mode=mode, out=np.empty_like(p.image))
        return Runner(run, warps.batched)

    def cv2(p):
        library = installed("cv2")
        flags = getattr(library, CV2[mode]) | library.WARP_INVERSE_MAP
        sides, out = p.image.shape[1::-1], np.empty_like(p.image)
        run = partial(library.warpAffine, p.image, p.matrix, sides, out, flags=flags)
        return Runner(run, warps.batched, TIES if mode == "nearest" else 2 * COARSE)

    problem = partial(images.picture, "uint8", 1080, 1920)
    makers: dict[str, Any] = {"ours": ours, "cv2": cv2}
    return Row("modes", problem, makers)


# --- Channels last --------------------------------------------------------------------------------


def channels_last(*shape):
    """Row: images (N, H, W, C) warped by affine maps."""

    def problem():
        p = warps.problem(shape)
        return p._replace(images=np.ascontiguousarray(p.images.transpose(0, 2, 3, 1)))

    makers: dict[str, Any] = {"ours": ours, "torch": torch_warp}
    made = {who: partial(make, layout="NHWC") for who, make in makers.items()}
    return Row("modes", problem, made)


# --- Projective maps ------------------------------------------------------------------------------


def perspective(*shape):
    """Row: images warped by projective maps."""

    def problem():
        p = warps.problem(shape)
        last = np.tile(np.array([[[0.05, -0.1, 1]]], np.float32), (len(p.theta), 1, 1))
        return p._replace(theta=np.concatenate([p.theta, last], axis=1))

    def ours(p):
        return Runner(
            partial(own("warp_perspective"), p.images, p.theta, out=np.empty_like(p.images)),
            _samples,
        )

    def pixels(p):
        height, width = p.images.shape[2:]
        unit = [[2 / width, 0, 1 / width - 1], [0, 2 / height, 1 / height - 1], [0, 0, 1]]
        return np.linalg.inv(unit) @ p.theta[0].astype(float) @ np.array(unit)

    def cv2(p):
        library, image = installed("cv2"), warps.one_image(p.images)
        flags, sides = library.INTER_LINEAR | library.WARP_INVERSE_MAP, image.shape[1::-1]
        run = partial(library.warpPerspective, image, pixels(p), sides, np.empty_like(image),
                      flags=flags)  # fmt: skip
        return Runner(run, warps.batched, COARSE)

    def kornia(p):
        torch = installed("torch")
        warp = installed("kornia").geometry.transform.warp_perspective
        given = torch.from_numpy(p.images)
        inverse = np.linalg.inv(pixels(p)).astype(np.float32)[None].repeat(len(p.theta), 0)
        matrices = torch.from_numpy(inverse)

        def run():
            with torch.no_grad():
                return warp(given, matrices, given.shape[2:], align_corners=True)

        return Runner(run, _samples)

    makers: dict[str, Any] = {"ours": ours, "cv2": cv2, "kornia": kornia}
    return Row("modes", problem, makers)


# --- Volumes --------------------------------------------------------------------------------------


def volume(side):
    """A smooth random volume, turned and made smaller."""
    p = warps.problem((1, side, side, side))
    theta = [[0.7, -0.3, 0.1, 0.01], [0.3, 0.7, 0.1, 0.02], [-0.1, 0.1, 0.8, 0.0]]
    return Volume(p.images[:, None], np.array([theta], np.float32))


def scipy_volume(p):
    """SciPy's affine_transform of one volume, z before y before x."""
    transform, given = installed("scipy.ndimage").affine_transform, p.images[0, 0]
    if len(set(given.shape)) > 1:
        raise MissingError("the same side along all axes, for one matrix in pixels")
    turn, middle = p.theta[0, ::-1, 2::-1].astype(float), (given.shape[0] - 1) / 2
    shift = p.theta[0, ::-1, 3] * given.shape[0] / 2 + middle - turn.sum(axis=1) * middle
    out = np.empty_like(given)
    run = partial(transform, given, turn, shift, output=out, order=1, mode="grid-constant")
    return Runner(run, lambda out: {"samples": out[None, None]})


def of_volume(side):
    """Row: a volume warped by an affine map."""
    makers: dict[str, Any] = {"ours": ours, "torch": torch_warp, "scipy": scipy_volume}
    return Row("modes", partial(volume, side), makers)


def _samples(samples):
    return {"samples": np.asarray(samples)}


ROWS = {
    "nearest 1x3x1080x1920": of_mode("nearest", 1, 3, 1080, 1920),
    "bicubic 1x3x1080x1920": of_mode("bicubic", 1, 3, 1080, 1920),
    "volume 1x1x128x128x128": of_volume(128),
    "perspective 1x3x1080x1920": perspective(1, 3, 1080, 1920),
    "channels last 1x540x960x32": channels_last(1, 32, 540, 960),
    "warp_image nearest uint8 1080x1920x3": of_picture("nearest"),
    "warp_image bicubic uint8 1080x1920x3": of_picture("bicubic"),
}
