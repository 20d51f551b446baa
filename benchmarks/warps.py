"""Rows of :mod:`.compare`: warps, forward and backward."""

import importlib
from functools import partial

import numpy as np

import numba_stn as stn


def installed(name):
    """A peer, or None."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def agree(ours, theirs, tolerance):
    """Stop the comparison of results that differ by more than rounding, away from the rims."""
    difference = np.abs(np.asarray(ours, float) - np.asarray(theirs, float))
    share = float((difference > tolerance).mean())
    if share > 0.01:
        raise AssertionError(f"results differ by up to {difference.max():.3g} in {share:.1%}")


def inputs(shape, angle=30.0, zoom=0.8):
    """Smooth random images, one map for all of them, and a gradient of the samples."""
    rng = np.random.default_rng(0)
    images = rng.random(shape, np.float32)
    images = (images + np.roll(images, 1, -1) + np.roll(images, 1, -2)) / np.float32(3)
    cos, sin = zoom * np.cos(np.deg2rad(angle)), zoom * np.sin(np.deg2rad(angle))
    # The same turn in pixels whatever the sides: y and x are normalised by different sides.
    aspect = shape[2] / shape[3]
    theta = np.array([[[cos, -sin * aspect, 0.01], [sin / aspect, cos, 0.02]]], np.float32)
    return images, theta.repeat(shape[0], 0), rng.standard_normal(shape, np.float32)


def pixel_matrix(theta, height, width):
    """Theta for pixels whose centres are whole numbers: output to input."""
    to_unit = np.array([[2 / width, 0, 1 / width - 1], [0, 2 / height, 1 / height - 1], [0, 0, 1]])
    square = np.vstack([theta.astype(float), [0, 0, 1]])
    return (np.linalg.inv(to_unit) @ square @ to_unit)[:2]


# --- Forward --------------------------------------------------------------------------------------


def forward(shape):
    """warp_affine, PyTorch's two calls, OpenCV on its own layout."""
    images, theta, _ = inputs(shape)
    out = np.empty(shape, np.float32)
    runners = {"ours": partial(stn.warp_affine, images, theta, out=out)}
    expected = stn.warp_affine(images, theta)
    if torch := installed("torch"):
        ti, tt = torch.from_numpy(images), torch.from_numpy(theta)

        def run_torch():
            with torch.no_grad():
                grid = torch.nn.functional.affine_grid(tt, shape, align_corners=False)
                return torch.nn.functional.grid_sample(ti, grid, align_corners=False)

        agree(expected, run_torch().numpy(), 1e-2)
        runners["torch"] = run_torch
    if cv2 := installed("cv2"):
        matrix = pixel_matrix(theta[0], *shape[2:])
        sources = [np.ascontiguousarray(image.transpose(1, 2, 0)) for image in images]
        results = [np.empty_like(source) for source in sources]
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP

        def run_cv2():
            for source, result in zip(sources, results, strict=True):
                cv2.warpAffine(source, matrix, shape[:1:-1], result, flags=flags)

        if shape[1] <= 4:  # OpenCV's warps take four channels at most
            run_cv2()
            found = np.stack([r.reshape(*shape[2:], -1).transpose(2, 0, 1) for r in results])
            agree(expected, found, 5e-2)
            runners["cv2"] = run_cv2
    return runners


def grid(side):
    """grid_sample on a smooth random grid, PyTorch's, and OpenCV's remap."""
    shape = (1, 1, side, side)
    images, theta, _ = inputs(shape)
    rng = np.random.default_rng(1)
    coarse = rng.standard_normal((2, 1, 8, 8)).astype(np.float32) * np.float32(0.05)
    bend = stn.warp_affine(coarse, np.eye(2, 3, dtype=np.float32)[None].repeat(2, 0), (side, side),
                           padding_mode="border", align_corners=True)  # fmt: skip
    coords = stn.affine_grid(theta, (side, side)) + bend[:, 0].transpose(1, 2, 0)[None]
    coords = np.ascontiguousarray(coords, np.float32)
    out = np.empty(shape, np.float32)
    runners = {"ours": partial(stn.grid_sample, images, coords, out=out)}
    expected = stn.grid_sample(images, coords)
    if torch := installed("torch"):
        ti, tg = torch.from_numpy(images), torch.from_numpy(coords)
        run_torch = partial(torch.nn.functional.grid_sample, ti, tg, align_corners=False)
        agree(expected, run_torch().numpy(), 1e-2)
        runners["torch"] = run_torch
    if cv2 := installed("cv2"):
        x, y = (((coords[0, :, :, k] + 1) * side - 1) / 2 for k in (0, 1))
        x, y, result = np.ascontiguousarray(x), np.ascontiguousarray(y), np.empty_like(images[0, 0])
        run_cv2 = partial(cv2.remap, images[0, 0], x, y, cv2.INTER_LINEAR, result)
        agree(expected[0, 0], run_cv2(), 5e-2)
        runners["cv2.remap"] = run_cv2
    return runners


# --- Forward and backward -------------------------------------------------------------------------


def both_ways(shape, wrt=("images", "theta")):
    """warp_affine and its vjp; PyTorch's two calls and their backward."""
    images, theta, dsamples = inputs(shape)

    def ours():
        samples = stn.warp_affine(images, theta)
        return samples, *stn.warp_affine_vjp(dsamples, images, theta, wrt=wrt)

    runners = {"ours": ours}
    if torch := installed("torch"):
        ti, tt = torch.from_numpy(images), torch.from_numpy(theta)
        ti.requires_grad_("images" in wrt), tt.requires_grad_("theta" in wrt)
        td = torch.from_numpy(dsamples)

        def run_torch():
            ti.grad = tt.grad = None
            coords = torch.nn.functional.affine_grid(tt, shape, align_corners=False)
            samples = torch.nn.functional.grid_sample(ti, coords, align_corners=False)
            samples.backward(td)
            return ti.grad, tt.grad

        for mine, theirs in zip(ours()[1:], run_torch(), strict=True):
            if mine is not None:
                agree(mine / np.abs(mine).max(), theirs.numpy() / np.abs(mine).max(), 1e-2)
        runners["torch"] = run_torch
    return runners


ROWS = {
    "warp_affine 1x1x4096x4096": partial(forward, (1, 1, 4096, 4096)),
    "warp_affine 1x3x1080x1920": partial(forward, (1, 3, 1080, 1920)),
    "warp_affine 256x1x42x42": partial(forward, (256, 1, 42, 42)),
    "warp_affine 64x32x28x28": partial(forward, (64, 32, 28, 28)),
    "both ways 1x3x1080x1920": partial(both_ways, (1, 3, 1080, 1920)),
    "both ways 256x1x42x42": partial(both_ways, (256, 1, 42, 42)),
    "both ways 64x32x28x28": partial(both_ways, (64, 32, 28, 28)),
    "to theta only 1x3x1080x1920": partial(both_ways, (1, 3, 1080, 1920), ("theta",)),
    "grid_sample 1x1x2048x2048": partial(grid, 2048),
    "warp_affine 1x1x28x28": partial(forward, (1, 1, 28, 28)),
}
