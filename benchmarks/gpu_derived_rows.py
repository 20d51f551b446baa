"""More rows of :mod:`benchmarks.gpu`: functions built on the sampler. They have no targets."""

from functools import partial
from typing import Any, NamedTuple

import numpy as np

import numba_stn as stn
from numba_stn.bench import warps
from numba_stn.bench.rows import Runner, peer_module, stn_function
from numba_stn.ops import tps_grid

from .gpu_arrays import Gpu
from .gpu_rows import Row, ends, named, tensors, warp_problem

# The number of control points along a side, as in the paper.
POINTS = 4

# The factor by which the antialiased output is smaller. An output pixel is then the mean of
# 2 x 2 positions.
FACTOR = 2


class SplineProblem(NamedTuple):
    """Images, control points, their basis functions at every pixel, and a gradient."""

    images: Any
    control: Any
    basis: Any
    dsamples: Any


def rows(gpu: Gpu, quick: bool) -> dict[str, Row]:
    """Give all rows by name."""
    shape = (4, 3, 64, 80) if quick else (64, 3, 1024, 1024)
    draw = partial(warp_problem, shape, True)
    return {
        named("warp_affine_jvp", shape): Row(draw, {"ours": stn_jvp}, {}),
        named("warp_affine_gauss_newton", shape): Row(draw, {"ours": stn_gauss_newton}, {}),
        named("antialias to half of", shape): Row(
            partial(warp_problem, shape, False),
            {"ours": stn_antialias, "torch": partial(torch_pooled, gpu)},
            {},
        ),
        named("warp_tps both ways", shape): Row(
            partial(spline_problem, shape), {"ours": stn_tps, "torch": partial(torch_tps, gpu)}, {}
        ),
    }


# --- Forward derivatives --------------------------------------------------------------------------


def stn_jvp(p):
    """The jvp of warp_affine; PyTorch has none for grid_sample."""
    function = stn_function("warp_affine_jvp")
    return Runner(partial(function, p.images, p.theta, p.dsamples, p.theta), ends("samples_dot"))


def stn_gauss_newton(p):
    """J^T J and J^T r; other libraries would have to compute J."""
    function = stn_function("warp_affine_gauss_newton")
    return Runner(partial(function, p.images, p.theta, p.dsamples), ends("jtj", "jtr"))


# --- Means over areas -----------------------------------------------------------------------------


def stn_antialias(p):
    """Antialiased samples of a smaller output."""
    size = tuple(side // FACTOR for side in p.images.shape[2:])
    run = partial(stn_function("warp_affine"), p.images, p.theta, size, antialias=True)
    return Runner(run, ends("samples"))


def torch_pooled(gpu, p):
    """PyTorch's samples of the full-size output, averaged: the same result for these maps."""
    full = warps.torch_forward(tensors(gpu, p))
    average = peer_module("torch").nn.functional.avg_pool2d
    return Runner(lambda: average(full.run(), FACTOR), ends("samples"))


# --- Splines --------------------------------------------------------------------------------------


def spline_problem(shape):
    """Smooth images, and one set of control points for all of them, near the lattice."""
    images, _, dsamples = warp_problem(shape, True)
    lattice = stn.control_points(POINTS)
    control = lattice + 0.1 * np.random.default_rng(0).standard_normal(lattice.shape)
    count, size = shape[0], shape[2:]
    # The grid is linear in the control points, so moving one point gives its basis function.
    moved = np.zeros((POINTS**2, POINTS**2, 2))
    moved[:, :, 0] = np.eye(POINTS**2) + lattice[:, 0]
    moved[:, :, 1] = lattice[:, 1]
    identity = tps_grid.tps_grid(lattice[None], size)[0, :, :, 0]
    basis = tps_grid.tps_grid(moved, size)[..., 0] - identity
    basis = basis.reshape(POINTS**2, -1).T.astype(np.float32)
    control = control.astype(np.float32)[None].repeat(count, 0)
    return SplineProblem(images, control, basis, dsamples)


def stn_tps(p):
    """warp_tps and its vjp."""
    warp, vjp = stn_function("warp_tps"), stn_function("warp_tps_vjp")

    def run():
        return warp(p.images, p.control), *vjp(p.dsamples, p.images, p.control)

    # The points' gradient is called dtheta for its tolerance: most of its sum cancels, too.
    return Runner(run, ends("samples", "dimages", "dtheta"))


def torch_tps(gpu, p):
    """PyTorch's grid_sample at the basis functions times the points, and its backward."""
    torch, p = peer_module("torch"), tensors(gpu, p)
    images, control = p.images.requires_grad_(), p.control.requires_grad_()
    grid_shape = (len(control), *images.shape[2:], 2)
    kind = {"dtype": control.dtype, "device": control.device}
    points = torch.as_tensor(stn.control_points(POINTS), **kind)
    identity = torch.eye(2, 3, **kind).expand(len(control), 2, 3)
    base = torch.nn.functional.affine_grid(identity, images.shape, align_corners=False)

    def run():
        images.grad = control.grad = None
        grid = base + (p.basis @ (control - points)).reshape(grid_shape)
        samples = torch.nn.functional.grid_sample(images, grid, align_corners=False)
        samples.backward(p.dsamples)
        return samples.detach(), images.grad, control.grad

    return Runner(run, ends("samples", "dimages", "dtheta"))
