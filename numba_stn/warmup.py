"""Compile the kernels of the usual calls, by making these calls, and store them in the cache.

A call compiles a kernel for one thread if it has little work, and one for several threads if it has
much. So each is made with small and with large arrays. Several processes share the calls.
"""

import concurrent.futures
import math
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from .kernels import cache
from .kernels.cpu.frames import FRAMES
from .ops import grid_sample, tps_grid, warp_tps, warps

# The sides of images with little work, and with enough for several threads.
SMALL, LARGE = 24, 300

# Samples in a batch, likewise.
ONE, MANY = 1, 2**16

# The sides of images and samples of a batch: rows that are divided into blocks.
SIDES = 1, 16

# The sides of an image that has no frame, with little work.
WITHOUT_FRAME = 100, 100

# About the seconds in which one process compiles a call, on a core of 2023.
SECONDS = 6.0


class Call(NamedTuple):
    """A call that compiles kernels; those that are not usual are made on request."""

    name: str
    run: Callable[[], object]
    usual: bool = True


def cache_folder() -> str | None:
    """Find the first folder of the compiled kernels; None if Numba has no writable folder."""
    return next(iter(cache.folders()), None)


def choose(words: Sequence[str]) -> list[Call]:
    """List the calls whose name contains one of these words.

    Without words they are the usual calls, and with the word "all" they are all calls.

    Raises
    ------
    LookupError
        If no call's name contains a word; the message lists the names.
    """
    found = [*_images(), *_batches(), *_registration(), *_training()]
    if not words:
        return [call for call in found if call.usual]
    if "all" in words:
        return found
    for word in words:
        if not any(word in call.name for call in found):
            raise LookupError(f"no call's name contains {word!r}: {[call.name for call in found]}")
    return [call for call in found if any(word in call.name for word in words)]


def process_count(calls: Sequence[Call]) -> int:
    """The number of processes that compile these calls."""
    return max(1, min(os.cpu_count() or 1, len(calls)))


def expected_seconds(calls: Sequence[Call], processes: int) -> float:
    """About the time that it takes to compile these calls, if none is in the cache."""
    return math.ceil(len(calls) / processes) * SECONDS


def compile_calls(calls: Sequence[Call], processes: int) -> Iterator[str]:
    """Make the calls, in several processes if there are more than one; yields each one's name."""
    if processes == 1:
        for call in calls:
            call.run()
            yield call.name
        return
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(processes, context) as pool:
        waiting = {pool.submit(_compile, call.name): call.name for call in calls}
        try:
            for done in concurrent.futures.as_completed(waiting):
                done.result()
                yield waiting[done]
        finally:
            pool.shutdown(cancel_futures=True)


def _compile(name):
    """Make the call of this name, in a process of its own."""
    (call,) = (call for call in choose(["all"]) if call.name == name)
    call.run()


# --- Images ---------------------------------------------------------------------------------------


def _images() -> Iterator[Call]:
    """List calls on one image."""
    for dtype, channels, padding in _image_kinds():
        name = f"images {dtype}{f' x {channels}' if channels else ''} {padding}"
        usual = dtype != "uint16" and channels != 4 and padding != "reflection"
        image = partial(_image, dtype, channels)
        yield Call(f"{name}: rotate", partial(_rotate, image, padding_mode=padding), usual)
        if padding == "zeros":
            usual = usual and channels != 0
            yield Call(f"{name}: perspective", partial(_perspective, image), usual)
            nearest = partial(_rotate, image, mode="nearest")
            yield Call(f"{name}: nearest", nearest, usual and dtype == "uint8")
    for dtype in ("uint8", "float32", "uint16"):
        yield Call(
            f"images {dtype}: resize",
            partial(_resize, partial(_image, dtype, 3)),
            dtype != "uint16",
        )


def _image_kinds() -> Iterable[tuple[str, int, str]]:
    """Yield dtypes, numbers of channels (0: no axis) and paddings."""
    for dtype in ("uint8", "float32", "uint16"):
        for channels in (0, 3, 4):
            for padding in ("zeros", "border", "reflection"):
                yield dtype, channels, padding


def _image(dtype, channels, side):
    return np.ones((side, side, channels) if channels else (side, side), dtype)


def _rotate(image, **options):
    from .images.resize_rotate_crop import rotate

    pixel = image(1).nbytes
    for side in (SMALL, math.isqrt(FRAMES // pixel) + 1, LARGE):  # the second has no frame
        rotate(image(side), 10, **options)


def _perspective(image):
    from .images.warp_image import warp_image

    for side in (SMALL, LARGE):
        warp_image(image(side), [[1, 0.1, 0], [0, 1, 0], [0.001, 0, 1]])


def _resize(image):
    from .images.resize_rotate_crop import crop_and_resize, resize

    for side in (SMALL, LARGE):
        resize(image(side), (side + 1, side + 1))
        resize(image(side), (side + 1, side + 1), antialias="lanczos3")
        crop_and_resize(image(side), [(0, 0, 9, 9)] * 2, (side, side))


# --- Batches --------------------------------------------------------------------------------------


def _batches() -> Iterator[Call]:
    """List warps of batches with the gradients, and the grids."""
    for dtype in ("float32", "float64"):
        for padding in ("zeros", "border", "reflection"):
            usual = dtype == "float32" and padding != "reflection"
            for function, vjp, coords in (
                (warps.warp_affine, warps.warp_affine_vjp, "theta"),
                (grid_sample.grid_sample, grid_sample.grid_sample_vjp, "grid"),
            ):
                name = f"batches {dtype} {padding}: {function.__name__}"
                forward = partial(_sample, function, dtype, coords, padding_mode=padding)
                yield Call(name, forward, usual)
                for wrt in ("images", coords):
                    gradient = partial(
                        _sample, vjp, dtype, coords, padding_mode=padding, wrt=(wrt,)
                    )
                    yield Call(f"{name}, gradient of {wrt}", gradient, usual)
        usual = dtype == "float32"
        coverage = partial(_sample, warps.warp_affine, dtype, "theta", coverage=True)
        yield Call(f"batches {dtype}: coverage", coverage, usual)
        yield Call(f"batches {dtype}: affine_grid", partial(_affine_grid, dtype), usual)
        yield Call(f"batches {dtype}: warp_perspective", partial(_projective, dtype), usual)
        yield Call(f"batches {dtype}: warp_tps", partial(_spline, dtype), usual)


def _sample(function, dtype, coords, **options):
    """Call a function of images and coordinates, or its gradient, with one map and with many."""
    sizes = [(ONE, SIDES), (MANY, SIDES)]
    if coords == "theta":
        sizes += [(ONE, WITHOUT_FRAME), (ONE, (LARGE, LARGE))]
    for count, sides in sizes:
        # The gradient of one image that has several maps has kernels of its own.
        images = np.ones((count if "wrt" in options else 1, 1, *sides), dtype)
        where = _theta(dtype, count) if coords == "theta" else np.zeros((count, *sides, 2), dtype)
        dsamples = np.ones((count, 1, *sides), dtype)
        given = (dsamples, images) if "wrt" in options else (images,)
        function(*given, where, **options)


def _theta(dtype, count, sides=(2, 3)):
    return np.tile(np.eye(*sides, dtype=dtype), (count, 1, 1))


def _affine_grid(dtype):
    for count in (ONE, MANY):
        grid_sample.affine_grid_vjp(grid_sample.affine_grid(_theta(dtype, count), SIDES))


def _projective(dtype):
    for side in (SMALL, LARGE):
        images, theta = np.ones((1, 1, side, side), dtype), _theta(dtype, 1, (3, 3))
        samples = warps.warp_perspective(images, theta)
        warps.warp_perspective_vjp(samples, images, theta)


def _spline(dtype):
    control = tps_grid.control_points(4).astype(dtype)[None]
    for side in (SMALL, LARGE):
        images = np.ones((1, 1, side, side), dtype)
        samples = warp_tps.warp_tps(images, control)
        warp_tps.warp_tps_vjp(samples, images, control)


# --- Registration and training --------------------------------------------------------------------


def _registration() -> Iterator[Call]:
    """List registrations."""
    for transform in ("rigid", "affine", "projective", "tps"):
        yield Call(f"registration: {transform}", partial(_register, transform), transform != "tps")


def _register(transform):
    from .registration import register

    for side in (64, LARGE):
        y, x = np.mgrid[:side, :side] / side
        image = 60 * (2 + np.sin(9 * x + 2 * y) + np.cos(7 * y * y + x))
        for dtype in (np.uint8, np.float32):
            given = image.astype(dtype)
            register(given, np.roll(given, 1, 0), transform, iterations=2)


def _training() -> Iterator[Call]:
    """List layers, and the networks of ``numba-stn train``: steps, and predictions."""
    yield Call("training: layers", _layers)
    for model in ("st-cnn", "cnn", "st-fcn"):
        yield Call(f"training: {model}", partial(_train, model), model == "st-cnn")


def _layers():
    """Run convolutions, a ReLU and pools, forward and backward."""
    from .nn import avg_pool, conv2d, max_pool, relu, serial

    net = serial(conv2d(8, 5), relu(), max_pool(2), conv2d(8, 3, 2, 1), avg_pool(2))
    params = net.init(np.random.default_rng(0), (1, 28, 28))
    for count in (1, 512):
        y, pullback, _ = net.apply(params, np.ones((count, 1, 28, 28), np.float32))
        pullback(y)


def _train(model):
    """Make steps with batches of two sizes, from distorted images, and predict."""
    from . import data
    from .nn import adam, train, zoo

    for side, batch in ((16, 50), (28, 256)):
        rng, task = np.random.default_rng(0), data.TASKS["R"]
        net = zoo.build(model, (1, side, side), "affine", [(side, side)], 10, 1, 1)
        learner = train.init_learner(net, adam(1e-3), (1, side, side), rng)
        images = rng.random((batch, 1, side, side)).astype(np.float32)
        split = task(rng, data.Split(images, np.arange(batch) % 10))
        learner, *_ = train.train_step(net, adam(1e-3), learner, split.images, split.labels)
        for count in (1, batch):
            train.predict(net, learner, split.images[:count])
