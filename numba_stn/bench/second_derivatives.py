"""Rows of double backward: the gradients of grid_sample's gradients."""

from functools import partial
from typing import Any, NamedTuple

import numpy as np

from . import warps
from .rows import MissingError, Row, Runner, peer_module, stn_function


class SecondProblem(NamedTuple):
    """What the gradients are computed from, and the gradients of a second loss by them."""

    dsamples: Any
    images: Any
    grid: Any
    ddimages: Any
    ddgrid: Any


def problem(shape):
    """Smooth random images at rotated grids, and noise."""
    p = warps.problem(shape, backward=True)
    height, width = shape[2:]
    line = [(2 * np.arange(side) - (side - 1)) / side for side in (width, height)]
    x, y = np.meshgrid(*line)
    grid = np.einsum("nij,hwj->nhwi", p.theta, np.stack([x, y, np.ones_like(x)], -1))
    rng = np.random.default_rng(2)
    noise = (rng.standard_normal(each.shape, np.float32) for each in (p.images, grid))
    return SecondProblem(p.dsamples, p.images, grid.astype(np.float32), *noise)


def stn_double_backward(p, mode):
    """grid_sample_vjp_vjp of numba_stn."""
    arrays = p.ddimages, p.ddgrid, p.dsamples, p.images, p.grid
    return Runner(partial(stn_function("grid_sample_vjp_vjp"), *arrays, mode=mode), _gradients)


def torch_double_backward(p, mode):
    """PyTorch's second pass through a graph that the first one has made."""
    torch = peer_module("torch")
    given = [torch.tensor(part, requires_grad=True) for part in p[:3]]
    second = [torch.tensor(part) for part in p[3:]]
    samples = torch.nn.functional.grid_sample(*given[1:], mode=mode, align_corners=False)
    first = torch.autograd.grad(samples, given[1:], given[0], create_graph=True)
    run = partial(torch.autograd.grad, first, given, second, retain_graph=True)
    try:
        run()
    except RuntimeError as error:
        raise MissingError("this version of torch has no double backward") from error
    return Runner(run, _gradients)


def _gradients(found):
    names = "ddsamples", "dimages", "dgrid"
    return {name: np.asarray(each) for name, each in zip(names, found, strict=True)}


def row(mode, *shape):
    """Row: all three gradients of grid_sample's gradients, in a mode."""
    makers: dict[str, Any] = {"ours": stn_double_backward, "torch": torch_double_backward}
    made = {who: partial(make, mode=mode) for who, make in makers.items()}
    return Row("second derivatives", partial(problem, shape), made)


ROWS = {
    "double backward 16x3x224x224": row("bilinear", 16, 3, 224, 224),
    "double backward bicubic 4x3x224x224": row("bicubic", 4, 3, 224, 224),
}
