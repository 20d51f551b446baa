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
from ..kernels.math.dtypes import computed
from ..kernels.math.sampler_kind import BILINEAR
from .any_dtype import check_labels, stored

# The most numbers that are sampled before they are averaged, except for a single map.
MAX_NUMBERS = 2**22


def sample_means(plan: Any, images: np.ndarray, theta: np.ndarray, coverage: bool) -> Any:
    """Return what :meth:`.sampler.Plan.sample` does, each sample the mean of its parts."""
    check_labels("images", images.dtype, BILINEAR, 'mode="nearest" and antialias=False')
    result = np.empty(plan.shape, images.dtype)
    covered = np.empty((plan.batch, *plan.size), theta.dtype)
    for group in _group_maps(plan, images, theta):
        finer, inside = group.plan.sample(group.images, group.theta, coverage=True)
        mean = group.mean(finer, 1 if plan.kind.channels_last else 2)
        result[group.maps] = stored(mean, result.dtype)
        covered[group.maps] = group.mean(inside, 1)
    return (result, covered) if coverage else result


def sample_means_vjp(
    plan: Any,
    dsamples: np.ndarray,
    images: np.ndarray,
    theta: np.ndarray,
    wanted: tuple[bool, ...],
) -> Any:
    """Return the gradients of :func:`sample_means`, as :meth:`.sampler.Plan.vjp` does."""
    dimages: Any = np.zeros(images.shape, dsamples.dtype) if wanted[0] else None
    dtheta = np.empty_like(theta) if wanted[1] else None
    for group in _group_maps(plan, images, theta):
        dfiner = group.mean_vjp(dsamples[group.maps], 1 if plan.kind.channels_last else 2)
        dgroup_images, dgroup_theta = group.plan.vjp(dfiner, group.images, group.theta, wanted)
        if wanted[0] and len(images) > 1:
            dimages[group.maps] = dgroup_images
        elif wanted[0]:
            dimages += dgroup_images
        if dtheta is not None:
            dtheta[group.maps] = dgroup_theta * group.scales
    return dimages, dtheta


# --- Groups of maps with the same parts -----------------------------------------------------------


class _Group(NamedTuple):
    """Some of the maps; their output pixels are all divided into the same parts."""

    maps: np.ndarray  # indices of the maps
    images: np.ndarray
    theta: np.ndarray  # the finer maps
    plan: Any  # of the finer output
    factors: tuple[int, ...]  # parts along (D,) H and W
    scales: np.ndarray  # the factors by which theta's columns were multiplied

    def mean(self, array, axis):
        """Average over the parts of each pixel; the spatial axes begin at ``axis``."""
        sides = [
            number
            for side, factor in zip(self.plan.size, self.factors, strict=True)
            for number in (side // factor, factor)
        ]
        end = axis + len(self.factors)
        parts = array.reshape(*array.shape[:axis], *sides, *array.shape[end:])
        real = computed(array.dtype)
        with ignore_float_errors():
            axes = tuple(range(axis + 1, end + len(self.factors), 2))
            return parts.mean(axis=axes, dtype=real)

    def mean_vjp(self, array, axis):
        """Distribute each pixel's gradient over its parts: the transpose of :meth:`mean`."""
        array = array * array.dtype.type(1 / math.prod(self.factors))
        for k, factor in enumerate(self.factors):
            array = np.repeat(array, factor, axis=axis + k)
        return array


def _group_maps(plan, images, theta):
    """Yield the maps in groups, each small enough for :data:`MAX_NUMBERS`."""
    kind, size, off = plan.kind, plan.size, plan.off
    counts = part_counts(kind, theta, kind.spatial(images), size, off)[:, 3 - kind.dims :]
    for factors in np.unique(counts, axis=0):
        finer_size = tuple(int(side * factor) for side, factor in zip(size, factors, strict=True))
        most = max(1, MAX_NUMBERS // (len(plan.fill) * math.prod(finer_size) or 1))
        alike = np.flatnonzero((counts == factors).all(axis=1))
        scales = np.ones(theta.shape[2], theta.dtype)
        for axis, (side, factor) in enumerate(zip(size[::-1], factors[::-1], strict=True)):
            scales[axis] = finer_scale(side, int(factor), off)
        for first in range(0, len(alike), most):
            maps = alike[first : first + most]
            own = images if len(images) == 1 else images[maps]
            finer = plan.resized(len(maps), finer_size)
            yield _Group(maps, own, theta[maps] * scales, finer, tuple(map(int, factors)), scales)
