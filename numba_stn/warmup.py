"""Compile the kernels of the usual calls, by making these calls, and store them in the cache."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from .kernels import cache
from .ops import grid_sample as stn
from .ops import warps

DTYPES = ("float32", "float64")
COMMON_PADDINGS = ("zeros", "border", "reflection")

# The numbers of maps of a call: one is too little work for several threads; with the other number,
# all steps are parallel.
ONE, MANY = 1, 2**16

# The sides of images and samples: rows that are divided into blocks.
SIDES = 1, 16


class Call(NamedTuple):
    """A call that compiles kernels."""

    name: str
    run: Callable[[], object]


def cache_folder() -> str | None:
    """Find the first folder of the compiled kernels; None if Numba has no writable folder."""
    return next(iter(cache.folders()), None)


def choose(words: Sequence[str]) -> list[Call]:
    """List the calls whose name contains one of these words; all if there are none."""
    found = [*_samplers(), *_grids(), *_networks()]
    for word in words:
        if not any(word in call.name for call in found):
            raise LookupError(f"no call's name contains {word!r}: {[call.name for call in found]}")
    return [call for call in found if not words or any(word in call.name for word in words)]


def _samplers() -> Iterator[Call]:
    """List warp_affine and grid_sample, forward and each gradient."""
    for dtype in DTYPES:
        for padding in COMMON_PADDINGS:
            for function, vjp, coords, draw in (
                (warps.warp_affine, warps.warp_affine_vjp, "theta", _theta),
                (stn.grid_sample, stn.grid_sample_vjp, "grid", _grid),
            ):
                name, run = f"{function.__name__} {dtype} {padding}", partial(_sample, dtype, draw)
                yield Call(name, partial(run, partial(function, padding_mode=padding)))
                for wrt in ("images", coords):
                    back = partial(_call_vjp, partial(vjp, padding_mode=padding, wrt=(wrt,)))
                    yield Call(f"{name}, gradient of {wrt}", partial(run, back))


def _sample(dtype, draw, function):
    """Call a function of images and coordinates with one map, and with many."""
    for count in (ONE, MANY):
        function(np.ones((1, 1, *SIDES), dtype), draw(dtype, count))


def _call_vjp(vjp, images, coords):
    """Call a vjp for samples of the images' size."""
    vjp(np.ones((len(coords), 1, *SIDES), images.dtype), images, coords)


def _theta(dtype, count):
    return np.tile(np.eye(2, 3, dtype=dtype), (count, 1, 1))


def _grid(dtype, count):
    return np.zeros((count, *SIDES, 2), dtype)


def _grids() -> Iterator[Call]:
    """List affine_grid with its vjp."""
    for dtype in DTYPES:
        yield Call(f"affine_grid {dtype}", partial(_affine_grid, dtype))


def _affine_grid(dtype):
    for count in (ONE, MANY):
        stn.affine_grid_vjp(stn.affine_grid(_theta(dtype, count), SIDES))


def _networks() -> Iterator[Call]:
    """List the layers that have kernels of their own."""
    for dtype in DTYPES:
        yield Call(f"layers {dtype}", partial(_layers, dtype))


def _layers(dtype):
    """Run convolutions, a ReLU and pools, forward and backward."""
    from .nn import avg_pool, conv2d, max_pool, relu, serial, tree

    net = serial(conv2d(8, 5), relu(), max_pool(2), conv2d(8, 3, 2, 1), avg_pool(2))
    params: Any = net.init(np.random.default_rng(0), (1, 28, 28))
    params = tree.tree_map(lambda weight: weight.astype(dtype), params)
    for count in (1, 512):
        y, pullback, _ = net.apply(params, np.ones((count, 1, 28, 28), dtype))
        pullback(y)
