"""Rows of images warped by thin-plate splines."""

from functools import partial
from typing import Any, NamedTuple

import numpy as np

from . import warps
from .rows import Row, Runner, peer_module, stn_function


class SplineProblem(NamedTuple):
    """Images, and the input positions of a lattice's k x k control points, (N, k * k, 2)."""

    images: Any
    control: Any


def problem(shape, k):
    """Smooth random images; each control point is moved by about a tenth of a side."""
    images = warps.problem(shape).images
    noise = np.random.default_rng(1).standard_normal((shape[0], k * k, 2))
    return SplineProblem(images, (lattice(k) + 0.2 * noise).astype(np.float32))


def lattice(k):
    """The points of the lattice, row by row over [-1, 1]^2, x before y.

    This module has formulas of its own for the lattice and the spline, independent of
    :mod:`numba_stn.ops.tps_grid`, because the peers compute with them.
    """
    y, x = np.mgrid[-1 : 1 : k * 1j, -1 : 1 : k * 1j]
    return np.stack([x.ravel(), y.ravel()], axis=1)


def energies(positions, points):
    """U(r) = r^2 log r^2 of all distances between positions and points (Bookstein 1989)."""
    squares = ((positions[:, None] - points) ** 2).sum(axis=2)
    return squares * np.log(np.where(squares > 0, squares, 1.0))


def solution(points):
    """The matrix (K + 3, K) from the values at the points to the weights of U, 1, x and y."""
    columns = np.column_stack([np.ones(len(points)), points])
    system = np.block([[energies(points, points), columns], [columns.T, np.zeros((3, 3))]])
    return np.linalg.inv(system)[:, : len(points)]


def grid_matrix(height, width, count):
    """The matrix (H W, K) from the control points of a square lattice to the grid."""
    x, y = ((2 * np.arange(side) + 1) / side - 1 for side in (width, height))
    positions = np.stack(np.broadcast_arrays(x, y[:, None]), axis=2).reshape(-1, 2)
    points = lattice(int(np.sqrt(count)))
    basis = np.column_stack([energies(positions, points), np.ones(len(positions)), positions])
    return basis @ solution(points)


# --- Libraries ------------------------------------------------------------------------------------


def stn_warp(p):
    """warp_tps of numba_stn into an existing array."""
    run = partial(stn_function("warp_tps"), p.images, p.control, out=np.empty_like(p.images))
    return Runner(run, _samples)


def torch_product(p):
    """PyTorch, as transformers are usually written: a matrix product for the grid, grid_sample.

    The matrix from control points to the coordinates of all pixels, H W K numbers, is computed
    before the measurement and stays in memory.
    """
    torch = peer_module("torch")
    images, control = torch.as_tensor(p.images), torch.as_tensor(p.control)
    height, width = images.shape[2:]
    matrix = torch.as_tensor(grid_matrix(height, width, control.shape[1]).astype(p.control.dtype))

    def run():
        with torch.no_grad():
            grid = (matrix @ control).reshape(-1, height, width, 2)
            return torch.nn.functional.grid_sample(images, grid, align_corners=False)

    return Runner(run, _samples)


def kornia_warp(p):
    """Warp by kornia's warp_image_tps, given the spline's weights.

    Its U is half of ours, and its affine weights are those of 1, x and y, in this order.
    """
    torch = peer_module("torch")
    warp = peer_module("kornia").geometry.transform.warp_image_tps
    points = lattice(int(np.sqrt(p.control.shape[1])))
    weights = solution(points) @ p.control.astype(float)
    kernel_weights, affine_weights = 2 * weights[:, : len(points)], weights[:, len(points) :]
    centers = points[None].repeat(len(p.control), 0)
    given = [torch.as_tensor(np.asarray(part, p.images.dtype))
             for part in (p.images, centers, kernel_weights, affine_weights)]  # fmt: skip

    def run():
        with torch.no_grad():
            return warp(*given, align_corners=False)

    return Runner(run, _samples)


def _samples(samples):
    return {"samples": np.asarray(samples)}


# --- Rows -----------------------------------------------------------------------------------------


def row(*shape, k=4):
    """Row: images warped by splines with k x k control points."""
    makers: dict[str, Any] = {"ours": stn_warp, "torch": torch_product, "kornia": kornia_warp}
    return Row("modes", partial(problem, shape, k), makers)


ROWS = {
    "tps 1x3x540x960": row(1, 3, 540, 960),
    "tps 256x1x42x42": row(256, 1, 42, 42),
}
