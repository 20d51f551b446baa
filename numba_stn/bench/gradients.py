"""Rows of other warps than affine ones, forward and backward: grids, projective maps, splines.

The gradients are with respect to the images and to what moves them. Volumes are here, too.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from . import grids, modes, splines
from .rows import Row, Runner, peer_module, stn_function


class Moved(NamedTuple):
    """Images, the grid, matrices or control points that move them, and the samples' gradient."""

    images: Any
    by: Any
    dsamples: Any


def moved(problem: Callable[[], tuple]) -> Moved:
    """Draw a problem of a forward row, and a gradient of its samples."""
    images, by, *_ = problem()
    sides = by.shape[1:3] if by.ndim == 4 else images.shape[2:]
    rng = np.random.default_rng(2)
    # A mean other than 0, so that a sum over all samples does not cancel.
    dsamples = 1 + rng.standard_normal((*images.shape[:2], *sides), np.float32)
    return Moved(images, by, dsamples)


def stn_both_ways(p, name):
    """A warp of numba_stn and its vjp."""
    warp, vjp = stn_function(name), stn_function(f"{name}_vjp")

    def run():
        return warp(p.images, p.by), *vjp(p.dsamples, p.images, p.by)

    return Runner(run, _named)


def torch_both_ways(p, make_grid):
    """PyTorch's grid_sample and its backward; ``make_grid`` makes the grid from what moves."""
    torch = peer_module("torch")
    images, by, dsamples = (torch.as_tensor(part) for part in p)
    images.requires_grad_(), by.requires_grad_()
    grid_of = make_grid(torch, p)

    def run():
        images.grad = by.grad = None
        samples = torch.nn.functional.grid_sample(images, grid_of(by), align_corners=False)
        samples.backward(dsamples)
        return samples.detach(), images.grad, by.grad

    return Runner(run, _named)


def _named(results):
    # The gradient of a few parameters has the tolerance of theta's.
    names = "samples", "dimages", "dgrid" if results[2].ndim == 4 else "dtheta"
    return {name: np.asarray(part) for name, part in zip(names, results, strict=True)}


# --- How PyTorch makes the grid -------------------------------------------------------------------


def _given(torch, p):
    return lambda grid: grid


def _affine(torch, p):
    make = torch.nn.functional.affine_grid
    return lambda theta: make(theta, p.images.shape, align_corners=False)


def _projective(torch, p):
    height, width = p.images.shape[2:]
    x, y = ((2 * np.arange(side) + 1) / side - 1 for side in (width, height))
    x, y = np.broadcast_arrays(x, y[:, None])
    homogeneous = np.stack([x, y, np.ones_like(x)], -1).reshape(-1, 3)
    points = torch.as_tensor(homogeneous.astype(p.by.dtype))

    def make(theta):
        found = points @ theta.transpose(1, 2)
        return (found[..., :2] / found[..., 2:]).reshape(-1, height, width, 2)

    return make


def _spline(torch, p):
    height, width = p.images.shape[2:]
    matrix = torch.as_tensor(splines.grid_matrix(height, width, p.by.shape[1]).astype(p.by.dtype))
    return lambda control: (matrix @ control).reshape(-1, height, width, 2)


# --- Rows -----------------------------------------------------------------------------------------


def row(name: str, problem: Callable[[], tuple], make_grid: Callable[..., Any]) -> Row:
    """Row: a warp of numba_stn and both gradients, beside PyTorch's."""
    makers: dict[str, Any] = {
        "ours": partial(stn_both_ways, name=name),
        "torch": partial(torch_both_ways, make_grid=make_grid),
    }
    return Row(f"{name} both ways", partial(moved, problem), makers)


def grid_row(side: int) -> Row:
    """Row: grid_sample of one image, both ways."""
    return row("grid_sample", partial(grids.problem, side), _given)


def perspective_row(*shape: int) -> Row:
    """Row: warp_perspective, both ways."""
    return row("warp_perspective", partial(modes.perspective_problem, shape), _projective)


def spline_row(*shape: int, k: int = 4) -> Row:
    """Row: warp_tps, both ways."""
    return row("warp_tps", partial(splines.problem, shape, k), _spline)


def volume_row(side: int) -> Row:
    """Row: warp_affine of a volume, both ways."""
    return row("warp_affine", partial(modes.volume_problem, side), _affine)


ROWS = {
    "grid_sample both ways 1x1x1024x1024": grid_row(1024),
    "perspective both ways 1x3x1080x1920": perspective_row(1, 3, 1080, 1920),
    "perspective both ways 256x1x42x42": perspective_row(256, 1, 42, 42),
    "tps both ways 256x1x42x42": spline_row(256, 1, 42, 42),
    "volume both ways 1x1x64x64x64": volume_row(64),
}
