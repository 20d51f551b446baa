"""Rows of warps by affine maps, forward and backward."""

from functools import partial
from typing import Any, NamedTuple

import numpy as np

from . import ipp
from .rows import COARSE, MissingError, Row, Runner, peer_module, stn_function

BOTH = ("images", "theta")


class Warp(NamedTuple):
    """Images, a map for each, and a gradient of the samples if one is needed."""

    images: Any
    theta: Any
    dsamples: Any = None


def problem(shape, angle=30.0, zoom=0.8, backward=False):
    """Smooth random images, and one map for all of them."""
    rng = np.random.default_rng(0)
    images = rng.random(shape, np.float32)
    images = (images + np.roll(images, 1, -1) + np.roll(images, 1, -2)) / np.float32(3)
    cos, sin = zoom * np.cos(np.deg2rad(angle)), zoom * np.sin(np.deg2rad(angle))
    # The same rotation in pixels for all sides: y and x are normalised by different sides.
    aspect = shape[2] / shape[3]
    theta = np.array([[[cos, -sin * aspect, 0.01], [sin / aspect, cos, 0.02]]], np.float32)
    dsamples = rng.standard_normal(shape, np.float32) if backward else None
    return Warp(images, theta.repeat(shape[0], 0), dsamples)


def pixel_matrix(theta, height, width):
    """Convert theta to a matrix (2, 3) from output to input pixels, with centres at whole numbers.

    :mod:`numba_stn.transforms.matrices` is not used, because old commits that are measured lack it.
    """
    to_unit = np.array([[2 / width, 0, 1 / width - 1], [0, 2 / height, 1 / height - 1], [0, 0, 1]])
    square = np.vstack([theta.astype(float), [0, 0, 1]])
    return (np.linalg.inv(to_unit) @ square @ to_unit)[:2]


def one_image(images, most_channels=4):
    """Convert a batch of one image to (H, W, C), for libraries without batches."""
    if len(images) > 1 or images.shape[1] > most_channels:
        raise MissingError("expected one image with few channels")
    return np.ascontiguousarray(images[0].transpose(1, 2, 0))


def batched(image):
    """(H, W) or (H, W, C) -> {"samples": (1, C, H, W)}."""
    return {"samples": np.atleast_3d(image).transpose(2, 0, 1)[None]}


# --- Forward --------------------------------------------------------------------------------------


def stn_forward(p):
    """warp_affine of numba_stn into an existing array."""
    out = np.empty_like(p.images)
    return Runner(partial(stn_function("warp_affine"), p.images, p.theta, out=out), _samples)


def torch_forward(p):
    """PyTorch's affine_grid and grid_sample."""
    torch = peer_module("torch")
    functional = torch.nn.functional
    images, theta = torch.as_tensor(p.images), torch.as_tensor(p.theta)

    def run():
        with torch.no_grad():
            grid = functional.affine_grid(theta, images.shape, align_corners=False)
            return functional.grid_sample(images, grid, align_corners=False)

    return Runner(run, _samples)


def cv2_forward(p):
    """OpenCV's warpAffine, one image at a time, in its own layout (H, W, C)."""
    cv2 = peer_module("cv2")
    height, width = p.images.shape[2:]
    if p.images.shape[1] > 4:
        raise MissingError("OpenCV's warps take at most four channels")
    matrix = pixel_matrix(p.theta[0], height, width)
    sources = [np.ascontiguousarray(image.transpose(1, 2, 0)) for image in p.images]
    results = [np.empty_like(source) for source in sources]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP

    def run():
        for source, result in zip(sources, results, strict=True):
            cv2.warpAffine(source, matrix, (width, height), result, flags=flags)
        return results

    def read(results):
        return {"samples": np.concatenate([batched(result)["samples"] for result in results])}

    return Runner(run, read, COARSE)


def ipp_forward(p):
    """Intel IPP's warp of one image."""
    matrix = pixel_matrix(p.theta[0], *p.images.shape[2:])
    return Runner(ipp.warp(one_image(p.images), matrix), batched, COARSE)


def kornia_forward(p):
    """Warp by kornia's warp_affine, whose matrices map input pixels to output pixels."""
    torch, warp = peer_module("torch"), peer_module("kornia").geometry.transform.warp_affine
    images, matrices = torch.from_numpy(p.images), torch.from_numpy(_to_output(p))

    def run():
        with torch.no_grad():
            return warp(images, matrices, images.shape[2:])

    return Runner(run, _samples)


def skimage_forward(p):
    """scikit-image's warp of one image."""
    return skimage_warp(one_image(p.images), pixel_matrix(p.theta[0], *p.images.shape[2:]))


def scipy_forward(p):
    """SciPy's affine_transform, one channel at a time."""
    return scipy_warp(one_image(p.images), pixel_matrix(p.theta[0], *p.images.shape[2:]))


def skimage_warp(image, matrix):
    """scikit-image's warp of an image (H, W, C)."""
    warp = peer_module("skimage.transform").warp
    image = image[..., 0] if image.shape[2] == 1 else image
    run = partial(warp, image, np.vstack([matrix, [0, 0, 1]]), order=1, preserve_range=True)
    return Runner(run, batched)


def scipy_warp(image, matrix):
    """SciPy's affine_transform of an image (H, W, C), one channel at a time."""
    transform = peer_module("scipy.ndimage").affine_transform
    channels = [np.ascontiguousarray(channel) for channel in image.transpose(2, 0, 1)]
    out = np.empty((len(channels), *channels[0].shape), image.dtype)
    rows_first = matrix[::-1, [1, 0, 2]]
    linear, shift = rows_first[:, :2], rows_first[:, 2]

    def run():
        for channel, result in zip(channels, out, strict=True):
            transform(channel, linear, shift, output=result, order=1, mode="grid-constant")
        return out

    return Runner(run, lambda out: {"samples": out[None]})


def _samples(samples):
    return {"samples": np.asarray(samples)}


def _to_output(p):
    """Matrices from input pixels to output pixels, (N, 2, 3)."""
    matrix = np.vstack([pixel_matrix(p.theta[0], *p.images.shape[2:]), [0, 0, 1]])
    return np.linalg.inv(matrix)[:2].astype(p.theta.dtype)[None].repeat(len(p.theta), 0)


FORWARD = {
    "ours": stn_forward,
    "torch": torch_forward,
    "cv2": cv2_forward,
    "ipp": ipp_forward,
    "kornia": kornia_forward,
    "skimage": skimage_forward,
    "scipy": scipy_forward,
}


def forward(*shape, **options):
    """Row: images warped by affine maps."""
    return Row("warp_affine", partial(problem, shape, **options), FORWARD)


# --- Forward and backward -------------------------------------------------------------------------


def stn_both_ways(p, wrt=BOTH):
    """warp_affine of numba_stn and its vjp."""
    warp, vjp = stn_function("warp_affine"), stn_function("warp_affine_vjp")

    def run():
        samples = warp(p.images, p.theta)
        return samples, *vjp(p.dsamples, p.images, p.theta, wrt=wrt)

    return Runner(run, _gradients)


def torch_both_ways(p, wrt=BOTH):
    """PyTorch's affine_grid and grid_sample, and their backward."""
    torch = peer_module("torch")
    functional = torch.nn.functional
    images, theta, dsamples = (torch.as_tensor(part) for part in p)
    images.requires_grad_("images" in wrt), theta.requires_grad_("theta" in wrt)

    def run():
        images.grad = theta.grad = None
        grid = functional.affine_grid(theta, images.shape, align_corners=False)
        samples = functional.grid_sample(images, grid, align_corners=False)
        samples.backward(dsamples)
        return samples.detach(), images.grad, theta.grad

    return Runner(run, _gradients)


def kornia_both_ways(p, wrt=BOTH):
    """Warp by kornia's warp_affine; its backward is with respect to its matrices, not theta."""
    torch, warp = peer_module("torch"), peer_module("kornia").geometry.transform.warp_affine
    images, dsamples = torch.from_numpy(p.images), torch.from_numpy(p.dsamples)
    matrices = torch.from_numpy(_to_output(p))
    images.requires_grad_("images" in wrt), matrices.requires_grad_("theta" in wrt)

    def run():
        images.grad = matrices.grad = None
        samples = warp(images, matrices, images.shape[2:])
        samples.backward(dsamples)
        return samples.detach(), images.grad, None

    return Runner(run, _gradients)


def _gradients(results):
    named = zip(("samples", "dimages", "dtheta"), results, strict=True)
    return {name: np.asarray(result) for name, result in named if result is not None}


def both_ways(*shape, wrt=BOTH, **options):
    """Row: images warped by affine maps, and the gradients of the images and of theta."""
    makers = {"ours": stn_both_ways, "torch": torch_both_ways, "kornia": kornia_both_ways}
    return Row(
        "warp_affine both ways",
        partial(problem, shape, backward=True, **options),
        {who: partial(make, wrt=wrt) for who, make in makers.items()},
    )


def stn_backward(p, wrt):
    """warp_affine_vjp of numba_stn, without the forward."""
    run = partial(stn_function("warp_affine_vjp"), p.dsamples, p.images, p.theta, wrt=wrt)
    return Runner(run, lambda results: {"dtheta": results[1]})


def to_theta_alone(*shape):
    """Row: the gradient of theta alone against both gradients, without other libraries."""
    return Row(
        "warp_affine both ways",
        partial(problem, shape, backward=True),
        {
            "ours": partial(stn_backward, wrt=("theta",)),
            "both gradients": partial(stn_backward, wrt=BOTH),
        },
    )


ROWS = {
    "warp_affine 1x1x4096x4096": forward(1, 1, 4096, 4096),
    "warp_affine 1x3x1080x1920": forward(1, 3, 1080, 1920),
    "warp_affine 256x1x42x42": forward(256, 1, 42, 42),
    "warp_affine 64x32x28x28": forward(64, 32, 28, 28),
    "warp_affine 1x1x28x28": forward(1, 1, 28, 28),
    "both ways 1x3x1080x1920": both_ways(1, 3, 1080, 1920),
    "both ways 256x1x42x42": both_ways(256, 1, 42, 42),
    "both ways 64x32x28x28": both_ways(64, 32, 28, 28),
    "to theta only 1x3x1080x1920": both_ways(1, 3, 1080, 1920, wrt=("theta",)),
    "backward to theta only 1x3x1080x1920": to_theta_alone(1, 3, 1080, 1920),
}
