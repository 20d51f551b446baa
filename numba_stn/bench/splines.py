"""Rows of images bent by thin-plate splines."""

from functools import partial
from typing import Any, NamedTuple

import numpy as np

from . import warps
from .rows import Row, Runner, installed, own


class Bend(NamedTuple):
    """Images, and where each of a lattice's k x k points reads its image, (N, k * k, 2)."""

    images: Any
    control: Any


def problem(shape, k):
    """Smooth random images; each point of the lattice moved by about a tenth of a side."""
    images = warps.problem(shape).images
    noise = np.random.default_rng(1).standard_normal((shape[0], k * k, 2))
    return Bend(images, (lattice(k) + 0.2 * noise).astype(np.float32))


def lattice(k):
    """The points, row by row over [-1, 1]^2, x before y.

    These and the spline are here once more, not :mod:`numba_stn.ops.tps_grid`', so that peers bend
    by a formula of their own.
    """
    y, x = np.mgrid[-1 : 1 : k * 1j, -1 : 1 : k * 1j]
    return np.stack([x.ravel(), y.ravel()], axis=1)


def energies(places, points):
    """U(r) = r^2 log r^2 of all distances between places and points (Bookstein 1989)."""
    squares = ((places[:, None] - points) ** 2).sum(axis=2)
    return squares * np.log(np.where(squares > 0, squares, 1.0))


def solution(points):
    """The matrix (K + 3, K) from what is read at the points to the weights of U, 1, x and y."""
    columns = np.column_stack([np.ones(len(points)), points])
    system = np.block([[energies(points, points), columns], [columns.T, np.zeros((3, 3))]])
    return np.linalg.inv(system)[:, : len(points)]


# --- Libraries ------------------------------------------------------------------------------------


def ours(p):
    """warp_tps into an array that is there."""
    run = partial(own("warp_tps"), p.images, p.control, out=np.empty_like(p.images))
    return Runner(run, _samples)


def torch_product(p):
    """PyTorch as transformers are written with it: a grid by one matrix product, and grid_sample.

    The matrix from control points to all pixels' coordinates is made before the clock starts, and
    stays in memory, H W K numbers of it.
    """
    torch = installed("torch")
    images, control = torch.as_tensor(p.images), torch.as_tensor(p.control)
    height, width = images.shape[2:]
    x, y = ((2 * np.arange(side) + 1) / side - 1 for side in (width, height))
    places = np.stack(np.broadcast_arrays(x, y[:, None]), axis=2).reshape(-1, 2)
    points = lattice(int(np.sqrt(control.shape[1])))
    basis = np.column_stack([energies(places, points), np.ones(len(places)), places])
    matrix = torch.as_tensor((basis @ solution(points)).astype(p.control.dtype))

    def run():
        with torch.no_grad():
            grid = (matrix @ control).reshape(-1, height, width, 2)
            return torch.nn.functional.grid_sample(images, grid, align_corners=False)

    return Runner(run, _samples)


def kornia(p):
    """Kornia's warp_image_tps, given the spline: its U is half of ours, 1 stands first here."""
    torch = installed("torch")
    warp = installed("kornia").geometry.transform.warp_image_tps
    points = lattice(int(np.sqrt(p.control.shape[1])))
    weights = solution(points) @ p.control.astype(float)
    bent, flat = 2 * weights[:, : len(points)], weights[:, len(points) :]
    centres = points[None].repeat(len(p.control), 0)
    given = [torch.as_tensor(np.asarray(part, p.images.dtype))
             for part in (p.images, centres, bent, flat)]  # fmt: skip

    def run():
        with torch.no_grad():
            return warp(*given, align_corners=False)

    return Runner(run, _samples)


def _samples(samples):
    return {"samples": np.asarray(samples)}


# --- Rows -----------------------------------------------------------------------------------------


def row(*shape, k=4):
    """Row: images bent by splines of k x k points."""
    makers: dict[str, Any] = {"ours": ours, "torch": torch_product, "kornia": kornia}
    return Row("modes", partial(problem, shape, k), makers)


ROWS = {
    "tps 1x3x540x960": row(1, 3, 540, 960),
    "tps 256x1x42x42": row(256, 1, 42, 42),
}
