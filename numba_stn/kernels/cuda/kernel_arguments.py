"""The arguments that the CUDA kernels of samplers are called with."""

from ..math.sampler_kind import FILL, ZEROS
from .convert import numbers_for
from .device import narrow


def geometry_of(kind, images, samples, coords, off, index=None):
    """The fields of :class:`.layout.Geometry`; by default in the smallest index type."""
    index = index or narrow(images, samples, coords)
    counts = len(images), len(samples), kind.channels(images)
    sides, sizes = ((1, *kind.spatial(array))[-3:] for array in (images, samples))
    return off_of(off, coords), typed(index, counts), typed(index, sides), typed(index, sizes)


def grid_geometry(index, off, coords, shape):
    """The same for a call that reads no images; ``shape`` is (N, H, W) or (N, D, H, W)."""
    batch, sizes = index(shape[0]), typed(index, (1, *shape[1:])[-3:])
    return off_of(off, coords), (batch, batch, index(1)), sizes, sizes


def off_of(off, coords):
    """``off`` in the precision of the coordinates."""
    return coords.dtype.type(off)


def typed(index, numbers):
    """Numbers in the type of the indices."""
    return tuple(index(number) for number in numbers)


def outside(kind, fill, like):
    """What is outside the images, if the padding reads it, as kernels take it."""
    return numbers_for(fill if kind.padding in (ZEROS, FILL) else fill[:0], like)


def terms_of(geometry):
    """The number of samples that may read one image."""
    (count, batch, _), sizes = map(int, geometry[1]), geometry[3]
    return int(sizes[0]) * int(sizes[1]) * int(sizes[2]) * (batch if count == 1 else 1)
