"""Shrinking without aliasing: several samples a pixel, as many as the map shrinks by, averaged.

A map that makes an image smaller skips pixels. So each output pixel is divided along each of its
axes into as many parts as the map's Jacobian's column for that axis is long, in pixels, rounded up:
neighbouring parts then read at most a pixel apart. The mean of the parts' samples is that over the
output pixel's area. It is linear in the images, and its gradients are exact.

Of a projective map the largest Jacobian on the output counts.

On the CPU the samplers make a finer output, of some maps at a time, which is averaged here. On a
GPU kernels of their own do both at once (:mod:`.kernels.cuda_areas`); there samples of integers
and of float16 are rounded once, after the mean, and here before it, too.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from ..kernels.cpu.antialias import part_counts
from ..kernels.cpu.arrays import ignore_float_errors
from ..kernels.math.matrix_rows import shrunk
from .validate import checked, nonzero

# Numbers that are sampled before they are averaged, at most, but for one image's.
CHUNK = 2**22


def samples(one: Any, size: tuple[int, ...], coverage: bool) -> Any:
    """What :meth:`.sampler.Pass.sample` gives, each sample the mean over its pixel's parts."""
    kind, count = one.kind, len(one.coords)
    result = np.empty(kind.shape(count, kind.channels(one.images), size), one.images.dtype)
    covered = np.empty((count, *size), one.coords.dtype)
    for group in _groups(one, size):
        found, inside = group.part.sample(group.finer, coverage=True)
        mean = group.mean(found, 1 if kind.channels_last else 2)
        result[group.chosen] = np.rint(mean) if result.dtype.kind == "u" else mean
        covered[group.chosen] = group.mean(inside, 1)
    return (result, covered) if coverage else result


def gradients(one: Any, dsamples: Any, wanted: tuple[bool, ...]) -> Any:
    """What :meth:`.sampler.Pass.vjp` gives, of :func:`samples`."""
    kind, images = one.kind, one.images
    expected = np.dtype(np.float32) if images.dtype.kind == "u" else images.dtype
    shape = kind.shape(len(one.coords), kind.channels(images), (None,) * kind.dims)
    checked("dsamples", dsamples, shape, (expected,))
    nonzero("dsamples", kind.spatial(dsamples))
    dimages: Any = np.zeros(images.shape, dsamples.dtype) if wanted[0] else None
    dcoords = np.empty_like(one.coords) if wanted[1] else None
    for group in _groups(one, kind.spatial(dsamples)):
        finer = group.spread(dsamples[group.chosen], 1 if kind.channels_last else 2)
        dpart, dtheta = group.part.vjp(finer, wanted)
        if wanted[0] and len(images) > 1:
            dimages[group.chosen] = dpart
        elif wanted[0]:
            dimages += dpart
        if dcoords is not None:
            dcoords[group.chosen] = dtheta * group.scales
    return dimages, dcoords


# --- Maps that shrink alike -----------------------------------------------------------------------


class _Group(NamedTuple):
    """Some of the maps, all divided into the same parts."""

    chosen: np.ndarray  # which they are
    part: Any  # the finer maps and their images
    factors: tuple[int, ...]  # parts along (D,) H and W
    finer: tuple[int, ...]  # the finer output's sides
    scales: np.ndarray  # what theta's columns were multiplied by

    def mean(self, array, axis):
        """Means over the parts of pixels, whose sides begin at ``axis``."""
        sides = [
            number
            for side, factor in zip(self.finer, self.factors, strict=True)
            for number in (side // factor, factor)
        ]
        end = axis + len(self.finer)
        parts = array.reshape(*array.shape[:axis], *sides, *array.shape[end:])
        real = np.float64 if array.dtype == np.float64 else np.float32
        with ignore_float_errors():
            return parts.mean(axis=tuple(range(axis + 1, end + len(self.finer), 2)), dtype=real)

    def spread(self, array, axis):
        """The transpose of :meth:`mean`."""
        array = array * array.dtype.type(1 / math.prod(self.factors))
        for k, factor in enumerate(self.factors):
            array = np.repeat(array, factor, axis=axis + k)
        return array


def _groups(one, size):
    """The maps in groups, in order, none too large."""
    kind, theta, off = one.kind, one.coords, one.options.off
    factors = _factors(kind, theta, kind.spatial(one.images), size, off)
    for own in np.unique(factors, axis=0):
        finer = tuple(int(side * factor) for side, factor in zip(size, own, strict=True))
        most = max(1, CHUNK // (kind.channels(one.images) * math.prod(finer) or 1))
        alike = np.flatnonzero((factors == own).all(axis=1))
        scales = np.ones(theta.shape[2], theta.dtype)
        for axis, (side, factor) in enumerate(zip(size[::-1], own[::-1], strict=True)):
            scales[axis] = shrunk(side, int(factor), off)
        for first in range(0, len(alike), most):
            chosen = alike[first : first + most]
            images = one.images if len(one.images) == 1 else one.images[chosen]
            part = one._replace(images=images, coords=theta[chosen] * scales)
            yield _Group(chosen, part, tuple(map(int, own)), finer, scales)


def _factors(kind, theta, sides, size, off):
    """Parts of an output pixel along (D,) H and W, for each map."""
    return part_counts(kind, theta, sides, size, off)[:, 3 - kind.dims :]
