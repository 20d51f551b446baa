"""What the CUDA kernels of any sampler are called with: sides, numbers outside, and tiles."""

from ..math.coordinates import FILL, ZEROS
from .convert import numbers_for
from .device import narrow, tiles


def outside(kind, fill, like):
    """What lies outside, where anything does."""
    return numbers_for(fill if kind.padding in (ZEROS, FILL) else fill[:0], like)


def off_of(off, coords):
    """``off`` in the precision of the coordinates."""
    return coords.dtype.type(off)


def shapes_of(kind, images, samples, coords):
    """(images, maps, channels), (D, H, W) and (D_out, H_out, W_out), in the type of the indices."""
    index = narrow(images, samples, coords)
    counts = len(images), len(samples), kind.channels(images)
    sides, sizes = ((1, *kind.spatial(array))[-3:] for array in (images, samples))
    return typed(index, counts), typed(index, sides), typed(index, sizes)


def tiles_of(batch, sizes):
    """Blocks for so many maps' output, of the sides ``sizes``."""
    depth, rows, columns = map(int, sizes)
    return tiles(batch * depth, rows, columns)


def typed(index, numbers):
    """Numbers in the type of the indices."""
    return tuple(index(number) for number in numbers)
