"""More rows of :mod:`benchmarks.gpu`: what is derived from samplers. No bars are set for these."""

from functools import partial
from typing import Any, NamedTuple

import numpy as np

import numba_stn as stn
from numba_stn.bench import warps
from numba_stn.bench.rows import Runner, installed, own
from numba_stn.ops import tps_grid

from .gpu_arrays import Gpu
from .gpu_rows import Row, ends, named, tensors, warp_problem

# Control points a side, the paper's.
POINTS = 4

# How much smaller an output whose pixels are means is made; its maps then divide pixels so.
SMALLER = 2


class Bend(NamedTuple):
    """Images, the points that bend them, the points' functions at every pixel, and a gradient."""

    images: Any
    control: Any
    functions: Any
    dsamples: Any


def rows(gpu: Gpu, quick: bool) -> dict[str, Row]:
    """All rows, by name."""
    shape = (4, 3, 64, 80) if quick else (64, 3, 1024, 1024)
    draw = partial(warp_problem, shape, True)
    return {
        named("warp_affine_jvp", shape): Row(draw, {"ours": forward_derivative}, {}),
        named("warp_affine_gauss_newton", shape): Row(draw, {"ours": normal_equations}, {}),
        named("antialias to half of", shape): Row(
            partial(warp_problem, shape, False), {"ours": means, "torch": partial(pooled, gpu)}, {}
        ),
        named("warp_tps both ways", shape): Row(
            partial(bend_problem, shape), {"ours": bent, "torch": partial(bent_by_torch, gpu)}, {}
        ),
    }


# --- Forward derivatives --------------------------------------------------------------------------


def forward_derivative(p):
    """How samples change as images and theta do; PyTorch has none of grid_sample."""
    return Runner(
        partial(own("warp_affine_jvp"), p.images, p.theta, p.dsamples, p.theta), ends("samples_dot")
    )


def normal_equations(p):
    """J^T J and J^T r, for which others would form J."""
    return Runner(
        partial(own("warp_affine_gauss_newton"), p.images, p.theta, p.dsamples), ends("jtj", "jtr")
    )


# --- Means over areas -----------------------------------------------------------------------------


def means(p):
    """Samples of a smaller output."""
    size = tuple(side // SMALLER for side in p.images.shape[2:])
    run = partial(own("warp_affine"), p.images, p.theta, size, antialias=True)
    return Runner(run, ends("samples"))


def pooled(gpu, p):
    """PyTorch's samples of the whole output, averaged: the same where a map divides pixels so."""
    whole = warps.torch_forward(tensors(gpu, p))
    average = installed("torch").nn.functional.avg_pool2d
    return Runner(lambda: average(whole.run(), SMALLER), ends("samples"))


# --- Splines --------------------------------------------------------------------------------------


def bend_problem(shape):
    """Smooth images, and one set of points for all of them, a little off the lattice."""
    images, _, dsamples = warp_problem(shape, True)
    lattice = stn.control_points(POINTS)
    control = lattice + 0.1 * np.random.default_rng(0).standard_normal(lattice.shape)
    count, size = shape[0], shape[2:]
    # The grid is linear in the points: of one that moves alone, it is the point's function.
    moved = np.zeros((POINTS**2, POINTS**2, 2))
    moved[:, :, 0] = np.eye(POINTS**2) + lattice[:, 0]
    moved[:, :, 1] = lattice[:, 1]
    at_rest = tps_grid.tps_grid(lattice[None], size)[0, :, :, 0]
    functions = tps_grid.tps_grid(moved, size)[..., 0] - at_rest
    functions = functions.reshape(POINTS**2, -1).T.astype(np.float32)
    return Bend(images, control.astype(np.float32)[None].repeat(count, 0), functions, dsamples)


def bent(p):
    """warp_tps and its vjp."""
    warp, vjp = own("warp_tps"), own("warp_tps_vjp")

    def run():
        return warp(p.images, p.control), *vjp(p.dsamples, p.images, p.control)

    # The points' gradient is a sum of which most cancels, as theta's is.
    return Runner(run, ends("samples", "dimages", "dtheta"))


def bent_by_torch(gpu, p):
    """PyTorch's grid_sample at the points' functions times the points, and its backward."""
    torch, p = installed("torch"), tensors(gpu, p)
    images, control = p.images.requires_grad_(), p.control.requires_grad_()
    grid_shape = (len(control), *images.shape[2:], 2)
    kind = {"dtype": control.dtype, "device": control.device}
    points = torch.as_tensor(stn.control_points(POINTS), **kind)
    identity = torch.eye(2, 3, **kind).expand(len(control), 2, 3)
    base = torch.nn.functional.affine_grid(identity, images.shape, align_corners=False)

    def run():
        images.grad = control.grad = None
        grid = base + (p.functions @ (control - points)).reshape(grid_shape)
        samples = torch.nn.functional.grid_sample(images, grid, align_corners=False)
        samples.backward(p.dsamples)
        return samples.detach(), images.grad, control.grad

    return Runner(run, ends("samples", "dimages", "dtheta"))
