"""The rows of :mod:`benchmarks.gpu`: the problems of the CPU's rows, on a GPU."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from numba_stn.bench import grids, training_steps, warps
from numba_stn.bench.rows import MissingError, Runner, peer_module, stn_function
from numba_stn.transforms.matrices import from_theta, to_scipy

from .gpu_arrays import Gpu, host


class Row(NamedTuple):
    """The work of a row, the libraries that do it, and the ratios that numba_stn aims at.

    ``targets["copy"]`` is a share of the copy bandwidth: ``moved_bytes``, the bytes that must be
    read and written, divided by the time of a call. With ``launch``, the host's time is measured.
    """

    problem: Callable[[], Any]
    makers: Mapping[str, Callable[[Any], Runner]]
    targets: Mapping[str, float]
    moved_bytes: int = 0
    launch: bool = False


class GridProblem(NamedTuple):
    """Images, a grid for each, and a gradient of the samples."""

    images: Any
    grid: Any
    dsamples: Any


def ends(*names):
    """Make a function that reads the first and last result of a batch of equal images."""

    def read(results):
        results = results if isinstance(results, tuple) else (results,)
        return {
            name: np.concatenate([host(result[:1]), host(result[len(result) - 1 :])])
            for name, result in zip(names, results, strict=True)
        }

    return read


def warp_problem(shape, backward):
    """Repeat the image of the CPU's rows, because drawing each image would take too long."""
    one = warps.problem((1, *shape[1:]), backward=backward)
    return warps.Warp(*(None if a is None else np.repeat(a, shape[0], 0) for a in one))


def grid_problem(batch, side):
    """Repeat the problem of the CPU's row."""
    one = grids.problem(side)
    dsamples = np.random.default_rng(2).standard_normal(one.images.shape, np.float32)
    return GridProblem(*(np.repeat(a, batch, 0) for a in (one.images, one.grid, dsamples)))


def rows(gpu: Gpu, quick: bool) -> dict[str, Row]:
    """Give all rows by name."""
    shapes = [(4, 3, 64, 80), (2, 1, 96, 128)] if quick else [(64, 3, 1024, 1024),
                                                              (16, 1, 4096, 4096)]  # fmt: skip
    small = (8, 1, 42, 42) if quick else (256, 1, 42, 42)
    batch, side = (2, 64) if quick else (16, 2048)
    found = {}
    for shape in shapes:
        found[named("warp_affine", shape)] = Row(
            partial(warp_problem, shape, False), forward(gpu),
            {"copy": 0.7, "torch": 2.0, "cupyx": 3.0}, 2 * 4 * int(np.prod(shape)),
        )  # fmt: skip
    for shape in (*shapes, small):
        found[named("both ways", shape)] = Row(
            partial(warp_problem, shape, True), both_ways(gpu), {"torch": 2.0}
        )
    size = (batch, 1, side, side)
    draw = partial(grid_problem, batch, side)
    found[named("grid_sample", size)] = Row(draw, grid_forward(gpu), {"torch": 1.0})
    found[named("grid_sample backward", size)] = Row(draw, grid_backward(gpu), {"torch": 1.0})
    count = 8 if quick else 256
    found[f"Adam step, paper's ST-CNN, batch {count}"] = Row(
        partial(training_steps.batch, training_steps.st_cnn, count), training(gpu), {"torch": 1.0}
    )
    tiny = (1, 1, 28, 28)
    found[named("launch of warp_affine", tiny)] = Row(
        partial(warp_problem, tiny, False), forward(gpu), {}, launch=True
    )
    return found


def named(what, shape):
    """Name a row."""
    return f"{what} {'x'.join(map(str, shape))}"


def forward(gpu):
    """warp_affine into an existing array, and its peers."""

    def stn(p):
        out = gpu.put(np.empty(tuple(p.images.shape), np.float32))
        run = partial(stn_function("warp_affine"), p.images, p.theta, out=out)
        return Runner(run, ends("samples"))

    def torch(p):
        return warps.torch_forward(tensors(gpu, p))._replace(read=ends("samples"))

    def cupyx(p):
        """One image and one channel at a time; CuPy has no function for a batch."""
        if not gpu.cupy:
            raise MissingError("CuPy is not installed, or finds no GPU")
        transform = peer_module("cupyx.scipy.ndimage").affine_transform
        height, width = p.images.shape[2:]
        matrix = from_theta(host(p.theta)[0], (height, width), (height, width))
        linear, shift = map(gpu.put, to_scipy(matrix))
        out = gpu.put(np.empty(p.images.shape, np.float32))
        flat = (-1, height, width)

        def run():
            for image, result in zip(p.images.reshape(flat), out.reshape(flat), strict=True):
                transform(image, linear, shift, output=result, order=1, mode="grid-constant")
            return out

        return Runner(run, ends("samples"))

    return {"ours": stn, "torch": torch, "cupyx": cupyx}


def both_ways(gpu):
    """warp_affine and both its gradients."""
    read = ends("samples", "dimages", "dtheta")
    return {
        "ours": lambda p: warps.stn_both_ways(p)._replace(read=read),
        "torch": lambda p: warps.torch_both_ways(tensors(gpu, p))._replace(read=read),
    }


def grid_forward(gpu):
    """grid_sample."""

    def stn(p):
        out = gpu.put(np.empty(tuple(p.images.shape), np.float32))
        return Runner(
            partial(stn_function("grid_sample"), p.images, p.grid, out=out), ends("samples")
        )

    def torch(p):
        return grids.torch_sample(tensors(gpu, p))._replace(read=ends("samples"))

    return {"ours": stn, "torch": torch}


def grid_backward(gpu):
    """Both gradients of grid_sample, without the forward."""
    read = ends("dimages", "dgrid")

    def stn(p):
        return Runner(partial(stn_function("grid_sample_vjp"), p.dsamples, p.images, p.grid), read)

    def torch(p):
        inputs = tensors(gpu, p)
        leaves = [inputs.images.requires_grad_(), inputs.grid.requires_grad_()]
        samples = grids.torch_sample(inputs).run()
        back = peer_module("torch").autograd.grad
        return Runner(partial(back, samples, leaves, inputs.dsamples, retain_graph=True), read)

    return {"ours": stn, "torch": torch}


def training(gpu):
    """One Adam step from the same weights; PyTorch rounds to TF32 where that is its default."""

    def stn(p):
        if not gpu.cupy:
            raise MissingError("numba_stn.nn needs CuPy on a GPU")
        try:
            runner = training_steps.stn_step(p)
            runner.run()
        except Exception as error:
            raise MissingError(f"numba_stn.nn does not run on a GPU: {one_line(error)}") from error
        return runner

    return {"ours": stn, "torch": lambda p: training_steps.torch_step(tensors(gpu, p))}


def tensors(gpu, p):
    """Convert the arrays of a problem to PyTorch tensors."""
    if not gpu.torch:
        raise MissingError("PyTorch is not installed, or finds no GPU")
    return convert(p, gpu.tensor)


def convert(p, put):
    """Apply ``put`` to the arrays of a problem, including a network's weights."""
    if isinstance(p, training_steps.Batch):
        from numba_stn.nn.tree import tree_map

        return training_steps.Batch(p.net, tree_map(put, p.params), put(p.images), put(p.labels))
    return type(p)(*map(put, p))


def one_line(error):
    """Format an error in one line of limited length."""
    text = " ".join(str(error).split())
    return (text if isinstance(error, MissingError) else f"{type(error).__name__}: {text}")[:300]
