"""Antialiased warps: where a map shrinks an image, each output pixel is a mean over its area.

A map that makes an image smaller skips pixels. So each output pixel is divided into parts: along
each output axis, their number is the length in input pixels of the Jacobian's column for this
axis, rounded up. Neighbouring parts then sample positions at most one pixel apart. The mean of the
parts' samples is the mean over the output pixel's area. It is linear in the images, and its
gradients are exact.

For a projective map, the largest Jacobian on the output counts.

On the CPU the samplers produce a finer output, for a few maps at a time, which is averaged here.
On a GPU the kernels of :mod:`numba_stn.kernels.cuda.antialias` do both at once: there, samples of
integers and of float16 are rounded once, after the mean; here they are also rounded before it.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from ..kernels.cpu.antialias import part_counts
from ..kernels.cpu.arrays import ignore_float_errors
from ..kernels.math.antialias import finer_scale
from .validate import check_array, check_not_empty

# The most numbers that are sampled before they are averaged, except for a single map.
MAX_NUMBERS = 2**22


def sample_means(sampler: Any, size: tuple[int, ...], coverage: bool) -> Any:
    """Return what :meth:`.sampler.Sampler.sample` does, each sample the mean of its parts."""
    kind, count = sampler.kind, len(sampler.coords)
    shape = kind.shape(count, kind.channels(sampler.images), size)
    result = np.empty(shape, sampler.images.dtype)
    covered = np.empty((count, *size), sampler.coords.dtype)
    for group in _group_maps(sampler, size):
        finer, inside = group.sampler.sample(group.finer_size, coverage=True)
        mean = group.mean(finer, 1 if kind.channels_last else 2)
        result[group.maps] = np.rint(mean) if result.dtype.kind == "u" else mean
        covered[group.maps] = group.mean(inside, 1)
    return (result, covered) if coverage else result


def sample_means_vjp(sampler: Any, dsamples: Any, wanted: tuple[bool, ...]) -> Any:
    """Return the gradients of :func:`sample_means`, as :meth:`.sampler.Sampler.vjp` does."""
    kind, images = sampler.kind, sampler.images
    expected = np.dtype(np.float32) if images.dtype.kind == "u" else images.dtype
    shape = kind.shape(len(sampler.coords), kind.channels(images), (None,) * kind.dims)
    check_array("dsamples", dsamples, shape, (expected,))
    check_not_empty("dsamples", kind.spatial(dsamples))
    dimages: Any = np.zeros(images.shape, dsamples.dtype) if wanted[0] else None
    dcoords = np.empty_like(sampler.coords) if wanted[1] else None
    for group in _group_maps(sampler, kind.spatial(dsamples)):
        dfiner = group.mean_vjp(dsamples[group.maps], 1 if kind.channels_last else 2)
        dgroup_images, dtheta = group.sampler.vjp(dfiner, wanted)
        if wanted[0] and len(images) > 1:
            dimages[group.maps] = dgroup_images
        elif wanted[0]:
            dimages += dgroup_images
        if dcoords is not None:
            dcoords[group.maps] = dtheta * group.scales
    return dimages, dcoords


# --- Groups of maps with the same parts -----------------------------------------------------------


class _Group(NamedTuple):
    """Some of the maps; their output pixels are all divided into the same parts."""

    maps: np.ndarray  # indices of the maps
    sampler: Any  # the finer maps and their images
    factors: tuple[int, ...]  # parts along (D,) H and W
    finer_size: tuple[int, ...]  # the finer output's sides
    scales: np.ndarray  # the factors by which theta's columns were multiplied

    def mean(self, array, axis):
        """Average over the parts of each pixel; the spatial axes begin at ``axis``."""
        sides = [
            number
            for side, factor in zip(self.finer_size, self.factors, strict=True)
            for number in (side // factor, factor)
        ]
        end = axis + len(self.finer_size)
        parts = array.reshape(*array.shape[:axis], *sides, *array.shape[end:])
        real = np.float64 if array.dtype == np.float64 else np.float32
        with ignore_float_errors():
            axes = tuple(range(axis + 1, end + len(self.finer_size), 2))
            return parts.mean(axis=axes, dtype=real)

    def mean_vjp(self, array, axis):
        """Distribute each pixel's gradient over its parts: the transpose of :meth:`mean`."""
        array = array * array.dtype.type(1 / math.prod(self.factors))
        for k, factor in enumerate(self.factors):
            array = np.repeat(array, factor, axis=axis + k)
        return array


def _group_maps(sampler, size):
    """Yield the maps in groups, each small enough for :data:`MAX_NUMBERS`."""
    kind, theta, off = sampler.kind, sampler.coords, sampler.options.off
    channels = kind.channels(sampler.images)
    all_factors = _count_parts(kind, theta, kind.spatial(sampler.images), size, off)
    for factors in np.unique(all_factors, axis=0):
        finer_size = tuple(int(side * factor) for side, factor in zip(size, factors, strict=True))
        most = max(1, MAX_NUMBERS // (channels * math.prod(finer_size) or 1))
        alike = np.flatnonzero((all_factors == factors).all(axis=1))
        scales = np.ones(theta.shape[2], theta.dtype)
        for axis, (side, factor) in enumerate(zip(size[::-1], factors[::-1], strict=True)):
            scales[axis] = finer_scale(side, int(factor), off)
        for first in range(0, len(alike), most):
            maps = alike[first : first + most]
            images = sampler.images if len(sampler.images) == 1 else sampler.images[maps]
            finer = sampler._replace(images=images, coords=theta[maps] * scales)
            yield _Group(maps, finer, tuple(map(int, factors)), finer_size, scales)


def _count_parts(kind, theta, sides, size, off):
    """Return, for each map, the parts of an output pixel along (D,) H and W."""
    return part_counts(kind, theta, sides, size, off)[:, 3 - kind.dims :]
