"""One large image as a Dask array, chunked in y and x: warped patch by patch, lazily.

A task computes a chunk of the output from those chunks of the image that it reads.
"""

import functools
import sys
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from ..kernels.math.sampler_kind import NEAREST
from ..ops.any_dtype import AnyDtype, check_dtype
from ..ops.dask_arrays import run_on_one_thread
from ..ops.validate import check_not_empty, choose_backend_for_image
from .crops import Part

__all__ = ["choose_kernels", "compute_lazily", "compute_several", "is_dask_array"]


def is_dask_array(image: Any) -> bool:
    """Whether an image is a Dask array; Dask is not imported for that."""
    dask_array = sys.modules.get("dask.array")
    return dask_array is not None and isinstance(image, dask_array.Array)


def choose_kernels(image: Any, stream: Any, out: Any) -> tuple[Any, Any]:
    """Return the kernels for an image, and the image as they take it; or this module."""
    if not is_dask_array(image):
        return choose_backend_for_image(image, stream)
    for name, value in (("out", out), ("stream", stream)):
        if value is not None:
            raise TypeError(f"{name}: expected None with Dask arrays, got {value!r}")
    if image.ndim not in (2, 3) or np.isnan(image.shape).any():
        raise ValueError(f"image: expected a known shape (H, W) or (H, W, C), got {image.shape}")
    if type(image._meta) is not np.ndarray:
        raise TypeError(f"image: expected a Dask array of NumPy arrays, got one of "
                        f"{type(image._meta).__name__}")  # fmt: skip
    check_dtype("image", image._meta, AnyDtype.NATIVE, NEAREST)  # the mode is checked later
    check_not_empty("image", image.shape[:2])
    return sys.modules[__name__], image


def compute_several(image: Any, jobs: Sequence[Any]) -> Any:
    """Return the outputs of several jobs as one Dask array (K, ...)."""
    import dask.array as da

    if not jobs:
        return da.zeros((0, 1, 1, *image.shape[2:]), dtype=image.dtype)
    return da.stack([compute_lazily(image, job) for job in jobs])


def compute_lazily(image: Any, job: Any) -> Any:
    """Return a job's output as a Dask array, with chunks as large as the image's largest."""
    import dask.array as da
    from dask.base import tokenize
    from dask.highlevelgraph import HighLevelGraph

    if image.ndim == 3:
        image = image.rechunk({2: -1})
    channels = image.shape[2:]
    chunks = [_sizes(max(own), size) for own, size in zip(image.chunks, job.sizes, strict=False)]
    name = f"{type(job).__name__.lower()}-{tokenize(image.name, job)}"
    graph = {
        (name, i, j, *[0] * len(channels)): _task(image, job, (*rows, *columns))
        for i, rows in enumerate(_ranges(chunks[0]))
        for j, columns in enumerate(_ranges(chunks[1]))
    }
    layers = HighLevelGraph.from_collections(name, graph, dependencies=[image])
    meta = np.empty((0,) * image.ndim, image.dtype)
    return da.Array(layers, name, (*chunks, *((count,) for count in channels)), meta=meta)


def _sizes(length, size):
    """Divide a side into chunks of a length."""
    return (length,) * (size // length) + ((size % length,) if size % length else ())


def _ranges(sizes):
    return pairwise(accumulate(sizes, initial=0))


def _task(image, job, patch):
    """The task that computes a patch: a function, and the chunks that it is given."""
    parts, zeros = job.parts(patch), [0] * len(image.shape[2:])
    rows, columns = (
        _pieces(part, sizes)
        for part, sizes in zip(parts or (None, None), image.chunks, strict=False)
    )
    run = functools.partial(
        _compute, job, patch, parts, (rows, columns), (image.shape[2:], image.dtype)
    )
    return (run, [(image.name, y, x, *zeros) for y, _, _ in rows for x, _, _ in columns])


def _pieces(part: Part | None, sizes: Sequence[int]) -> list[tuple[int, slice, slice]]:
    """The chunks of an axis that a part reads: the number, the pixels in it, and in the crop."""
    found: list[tuple[int, slice, slice]] = []
    done = 0
    for start, stop, step in part.slices if part else ():
        pixels = range(start, stop, step)
        low, high = min(pixels[0], pixels[-1]), max(pixels[0], pixels[-1])
        for number, (first, last) in enumerate(_ranges(sizes)):
            one, end = max(low, first), min(high + 1, last)
            if one >= end:
                continue
            inner = slice(one - first, end - first)
            at = one - low
            if step < 0:
                inner = slice(end - first - 1, one - first - 1 if one > first else None, -1)
                at = high + 1 - end
            found.append((number, inner, slice(done + at, done + at + end - one)))
        done += len(pixels)
    return found


def _compute(job, patch, parts, pieces, like, blocks):
    """Compute a patch from the chunks that it reads."""
    return run_on_one_thread(_compute_patch, {}, {
        "job": job, "patch": patch, "parts": parts, "pieces": pieces, "like": like,
        "blocks": blocks,
    })  # fmt: skip


def _compute_patch(job, patch, parts, pieces, like, blocks):
    (rows, columns), (channels, dtype) = pieces, like
    sides = tuple(part.length for part in parts) if parts else (0, 0)
    crop, given = np.empty((*sides, *channels), dtype.newbyteorder("=")), iter(blocks)
    for _, y_in, y in rows:
        for _, x_in, x in columns:
            crop[y, x] = next(given)[y_in, x_in]
    return job.compute(patch, parts, crop).astype(dtype, copy=False)
