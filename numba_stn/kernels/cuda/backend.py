"""What runs on a GPU: the names of :mod:`.backend`, and what holds for all CUDA kernels.

Kernels have one thread a pixel, forward and backward side by side. Those of the common case,
bilinear samples of float planes with their channels first, are in :mod:`.bilinear`, those of all
other samplers in :mod:`.general`, and what is made of samplers in :mod:`.jvp`, :mod:`.antialias`,
:mod:`.tps` and :mod:`.grids`. No call falls back to the CPU. The scalar math is that of
:mod:`.coordinates`, :mod:`.interpolation` and :mod:`.matrix_rows`; in kernels stand only loops and
writes. Arrays and launches are in :mod:`.device`, sums in :mod:`.sums`. A kernel computes
coordinates in the type of its coordinates and values in the type of its images, so a float32 kernel
has no float64 arithmetic, of which most GPUs have little; but for the 24 sums that normal equations
have for each map.

The same inputs give the same bits every time: no float is ever added atomically. The images'
gradient of an affine warp is gathered (:mod:`.gather`). That of a grid or of means, or under a
padding that reads the edges from everywhere, is summed in integers of one unit for the whole array,
which is below ``T max|dsamples| / 2**60``, where T is the number of samples that read one image:
2**-36 of the largest term for a 4096 x 4096 output, 2**-48 for 64 x 64. Each term is rounded to
that unit, which is far below float32's own rounding of the largest terms; a float64 gradient is
exact to that fraction of the largest term, and not to 2**-53 of each. (Keys's weights may add up to
1.9 in magnitude, so the bicubic unit is twice that.) The sums cannot overflow. Where ``dsamples``
holds an infinity or NaN, the images' gradient is then NaN everywhere.

``coords`` is as in :mod:`.backend`; ``off`` has the coordinates' type. Kernels take the elements of
arrays in line, and the sides, whose type is that of all indices: 32 bits where they reach. Work is
split into tiles of the output, and a kernel goes on to the next tile where the device has no more
blocks. Loops are ``while`` loops: ``range`` with a step that is not known divides to count its
turns, and counts in 64 bits.
"""

from ..math.coordinates import AFFINE, ZEROS
from . import antialias as areas
from . import general
from . import grids as coords
from .bilinear import (
    make_affine_grid,
    make_affine_grid_vjp,
    make_grid_gradient,
    make_sample,
    make_sample_vjp_images,
    make_theta_gradient,
)
from .calls import off_of, typed
from .convert import add, alike, clear, converted
from .device import BLOCK, empty, launch, narrow, output, returned, some_of, taken, tiles
from .gather import gather
from .general import coverage
from .interleaved import warp_image
from .jvp import normal_equations, sample_jvp_coords
from .sums import fraction_of, sum_images, sum_theta
from .tps import spline_grid, spline_groups, spline_points, spline_room, spline_weights

__all__ = [
    "add",
    "affine_grid",
    "affine_grid_vjp",
    "areas",
    "clear",
    "converted",
    "coords",
    "coverage",
    "empty",
    "normal_equations",
    "output",
    "returned",
    "sample",
    "sample_jvp_coords",
    "sample_vjp_coords",
    "sample_vjp_images",
    "some_of",
    "spline_grid",
    "spline_groups",
    "spline_points",
    "spline_room",
    "spline_weights",
    "taken",
    "warp_image",
]

# --- What the functional layer calls; cpu.py has the same names -----------------------------------


def affine_grid(theta, off, grid):
    """Fill ``grid``, (N, H_out, W_out, 2) or (N, D_out, H_out, W_out, 3), from ``theta``."""
    if len(grid.shape) == 5:
        general.affine_grid(theta, off, grid)
        return
    shape = typed(narrow(grid), grid.shape[:3])
    launch(make_affine_grid(), tiles(*shape), BLOCK, theta, off_of(off, theta), shape, grid)


def affine_grid_vjp(dgrid, off, dtheta):
    """Fill ``dtheta``, (N, 2, 3) or (N, 3, 4), from ``dgrid``."""
    if len(dgrid.shape) == 5:
        general.affine_grid_vjp(dgrid, off, dtheta)
        return
    kernel, shape = make_affine_grid_vjp(dgrid.dtype.type), typed(narrow(dgrid), dgrid.shape[:3])
    sum_theta(kernel, dgrid.shape[1], dtheta, dgrid, off_of(off, dgrid), shape)


def sample(kind, images, coords, off, fill, samples):
    """Fill ``samples``, which read ``fill`` outside, a number for each channel."""
    if not _common(kind, images) or not alike(fill):
        general.sample(kind, images, coords, off, fill, samples)
        return
    launch(
        make_sample(kind.source, kind.padding), _tiles(samples), BLOCK, images, coords,
        off_of(off, coords), fill[0], *_sides(images, samples, coords), samples,
    )  # fmt: skip


def sample_vjp_images(kind, dsamples, coords, off, dimages):
    """Fill ``dimages``, of the images' shape."""
    if not _common(kind, dimages):
        general.sample_vjp_images(kind, dsamples, coords, off, dimages)
        return
    source, padding = kind.source, kind.padding
    batch, _, rows, columns = dsamples.shape
    where = off_of(off, coords), *_sides(dimages, dsamples, coords)
    if source == AFFINE and padding == ZEROS and batch:
        gather(dsamples, coords, *where, dimages)
        return
    kernel = make_sample_vjp_images(source, padding, fraction_of(dsamples.dtype))
    most = rows * columns * (batch if len(dimages) == 1 else 1)
    sum_images(kernel, _tiles(dsamples), most, dsamples, coords, where, dimages)


def sample_vjp_coords(kind, dsamples, images, coords, off, fill, dcoords):
    """Fill ``dcoords``: dgrid, or dtheta where the source is a matrix."""
    if not _common(kind, images) or not alike(fill):
        general.sample_vjp_coords(kind, dsamples, images, coords, off, fill, dcoords)
        return
    source, padding = kind.source, kind.padding
    args = (
        dsamples, images, coords, off_of(off, coords), fill[0] if len(fill) else fill.dtype.type(0),
        *_sides(images, dsamples, coords),
    )  # fmt: skip
    if source == AFFINE:
        kernel = make_theta_gradient(padding, coords.dtype.type)
        sum_theta(kernel, dsamples.shape[2], dcoords, *args)
    else:
        launch(make_grid_gradient(padding), _tiles(dsamples), BLOCK, *args, dcoords)


def _common(kind, images):
    """Whether these images have the kernels of :mod:`.bilinear`."""
    return kind.is_common() and images.dtype.kind == "f" and images.dtype.itemsize > 2


def _tiles(samples):
    batch, _, rows, columns = samples.shape
    return tiles(batch, rows, columns)


def _sides(images, samples, coords):
    """(images, maps, channels) and (H, W, H_out, W_out), in the type of the indices."""
    index = narrow(images, samples, coords)
    (count, channels, h, w), (batch, _, rows, columns) = images.shape, samples.shape
    return typed(index, (count, batch, channels)), typed(index, (h, w, rows, columns))
