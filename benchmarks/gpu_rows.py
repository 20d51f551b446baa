"""The rows of :mod:`benchmarks.gpu`: the CPU's problems on a GPU, by each library."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from numba_stn.bench import grids, steps, warps
from numba_stn.bench.rows import MissingError, Runner, installed, own
from numba_stn.transforms.matrices import from_theta, to_scipy

from .gpu_arrays import Gpu, host


class Row(NamedTuple):
    """Some work, how each library does it, and the ratios that we aim at.

    ``bars["copy"]`` is a share of the copy bandwidth: that at which ``moved`` bytes, those that
    must be read and written, go by in the time of a call.
    """

    problem: Callable[[], Any]
    makers: Mapping[str, Callable[[Any], Runner]]
    bars: Mapping[str, float]
    moved: int = 0
    launch: bool = False


class Sampling(NamedTuple):
    """Images, a grid for each, and a gradient of the samples."""

    images: Any
    grid: Any
    dsamples: Any


def ends(*names):
    """What reads results: of a batch the first and the last, since all are the same image."""

    def read(results):
        results = results if isinstance(results, tuple) else (results,)
        return {
            name: np.concatenate([host(result[:1]), host(result[len(result) - 1 :])])
            for name, result in zip(names, results, strict=True)
        }

    return read


def warp_problem(shape, backward):
    """The images of the CPU's rows, one after another: to draw each anew would take too long."""
    one = warps.problem((1, *shape[1:]), backward=backward)
    return warps.Warp(*(None if a is None else np.repeat(a, shape[0], 0) for a in one))


def sampling_problem(batch, side):
    """The CPU's row, several times over."""
    one = grids.reading(side)
    dsamples = np.random.default_rng(2).standard_normal(one.images.shape, np.float32)
    return Sampling(*(np.repeat(a, batch, 0) for a in (one.images, one.grid, dsamples)))


def rows(gpu: Gpu, quick: bool) -> dict[str, Row]:
    """All rows, by name."""
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
    draw = partial(sampling_problem, batch, side)
    found[named("grid_sample", size)] = Row(draw, sampling(gpu), {"torch": 1.0})
    found[named("grid_sample backward", size)] = Row(draw, sampling_back(gpu), {"torch": 1.0})
    learners = 8 if quick else 256
    found[f"Adam step, paper's ST-CNN, batch {learners}"] = Row(
        partial(steps.batch, steps.st_cnn, learners), training(gpu), {"torch": 1.0}
    )
    tiny = (1, 1, 28, 28)
    found[named("launch of warp_affine", tiny)] = Row(
        partial(warp_problem, tiny, False), forward(gpu), {}, launch=True
    )
    return found


def named(what, shape):
    """A row's name."""
    return f"{what} {'x'.join(map(str, shape))}"


def forward(gpu):
    """warp_affine into an array that is there, and its peers."""

    def ours(p):
        out = gpu.put(np.empty(tuple(p.images.shape), np.float32))
        run = partial(own("warp_affine"), p.images, p.theta, out=out)
        return Runner(run, ends("samples"))

    def torch(p):
        return warps.torch_forward(tensors(gpu, p))._replace(read=ends("samples"))

    def cupyx(p):
        """An image and a channel at a time, for more is not offered."""
        if not gpu.cupy:
            raise MissingError("CuPy is not installed, or finds no GPU")
        transform = installed("cupyx.scipy.ndimage").affine_transform
        height, width = p.images.shape[2:]
        matrix = from_theta(host(p.theta)[0], (height, width), (height, width))
        turn, shift = map(gpu.put, to_scipy(matrix))
        out = gpu.put(np.empty(p.images.shape, np.float32))
        flat = (-1, height, width)

        def run():
            for image, result in zip(p.images.reshape(flat), out.reshape(flat), strict=True):
                transform(image, turn, shift, output=result, order=1, mode="grid-constant")
            return out

        return Runner(run, ends("samples"))

    return {"ours": ours, "torch": torch, "cupyx": cupyx}


def both_ways(gpu):
    """warp_affine and both its gradients."""
    read = ends("samples", "dimages", "dtheta")
    return {
        "ours": lambda p: warps.ours_both_ways(p)._replace(read=read),
        "torch": lambda p: warps.torch_both_ways(tensors(gpu, p))._replace(read=read),
    }


def sampling(gpu):
    """grid_sample."""

    def ours(p):
        out = gpu.put(np.empty(tuple(p.images.shape), np.float32))
        return Runner(partial(own("grid_sample"), p.images, p.grid, out=out), ends("samples"))

    def torch(p):
        return grids.torch_sample(tensors(gpu, p))._replace(read=ends("samples"))

    return {"ours": ours, "torch": torch}


def sampling_back(gpu):
    """Both gradients of grid_sample, without the forward."""
    read = ends("dimages", "dgrid")

    def ours(p):
        return Runner(partial(own("grid_sample_vjp"), p.dsamples, p.images, p.grid), read)

    def torch(p):
        inputs = tensors(gpu, p)
        leaves = [inputs.images.requires_grad_(), inputs.grid.requires_grad_()]
        samples = grids.torch_sample(inputs).run()
        back = installed("torch").autograd.grad
        return Runner(partial(back, samples, leaves, inputs.dsamples, retain_graph=True), read)

    return {"ours": ours, "torch": torch}


def training(gpu):
    """One Adam step from the same weights; PyTorch rounds to TF32 where its defaults say so."""

    def ours(p):
        if not gpu.cupy:
            raise MissingError("numba_stn.nn would need CuPy")
        try:
            runner = steps.ours(p)
            runner.run()
        except Exception as error:
            raise MissingError(f"numba_stn.nn does not run on a GPU: {line(error)}") from error
        return runner

    return {"ours": ours, "torch": lambda p: steps.torch_step(tensors(gpu, p))}


def tensors(gpu, p):
    """A problem whose arrays are PyTorch's."""
    if not gpu.torch:
        raise MissingError("PyTorch is not installed, or finds no GPU")
    return placed(p, gpu.tensor)


def placed(p, put):
    """A problem whose arrays have gone through ``put``; a network's weights too."""
    if isinstance(p, steps.Batch):
        from numba_stn.nn.tree import tree_map

        return steps.Batch(p.net, tree_map(put, p.params), put(p.images), put(p.labels))
    return type(p)(*map(put, p))


def line(error):
    """An error in one line; a library's may be pages."""
    text = " ".join(str(error).split())
    return (text if isinstance(error, MissingError) else f"{type(error).__name__}: {text}")[:300]
