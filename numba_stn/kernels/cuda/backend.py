"""What runs on a GPU: the functions of the CPU's backend, under the same names.

- :mod:`.device`, :mod:`.convert`: arrays, streams, launches; conversions, zeros
- :mod:`.layout`, :mod:`.loops`: shapes and addresses; the loops over output pixels and over rows
- :mod:`.sums`: theta's gradient in a fixed tree, the images' gradient in integers
- :mod:`.bilinear`, :mod:`.bilinear_pixels`: the common case, bilinear samples of float planes
- :mod:`.images_gradient`: its images' gradient for an affine map, through the inverse map
- :mod:`.general`, :mod:`.coordinate_sources`, :mod:`.taps`: every other sampler
- :mod:`.jvp`, :mod:`.second_derivatives`: its forward and its second derivatives
- :mod:`.antialias`, :mod:`.tps`, :mod:`.grid_conversions`: functions built on it
- :mod:`.interleaved`: one image (H, W, C)

What holds for all kernels:

- No call falls back to the CPU. The scalar math is that of :mod:`numba_stn.kernels.math`.
- Coordinates are computed in their own type, values in that of the images. So a float32 kernel has
  no float64 arithmetic, which is slow on most GPUs; :func:`.jvp.make_normal_sum` is the exception.
- The same inputs give the same bits every time: no float is added atomically, see :mod:`.sums`.
- Loops are ``while`` loops: ``range`` with a variable step divides, and counts in 64 bits.
"""

import sys
from dataclasses import replace
from math import prod

import numpy as np

from ..math.dtypes import computed
from ..math.sampler_kind import AFFINE, ZEROS
from ..math.spline_samplers import SplineSamplers
from . import antialias as areas
from . import general, interleaved, jvp, second_derivatives, spline_lines
from . import grid_conversions as coords
from .bilinear import (
    make_affine_grid,
    make_affine_grid_vjp,
    make_grid_gradient,
    make_sample,
    make_sample_vjp_images,
    make_theta_gradient,
)
from .convert import add, alike, clear, converted
from .device import batch_slice, empty, kernel_array, launch_pixels, narrow, output, returned
from .images_gradient import gather
from .kernel_arguments import geometry_of, grid_geometry, terms_of
from .sums import fraction_of, sum_images, sum_theta
from .tps import spline_grid, spline_groups, spline_memory, spline_points, spline_weights

__all__ = [
    "add",
    "affine_grid",
    "affine_grid_vjp",
    "areas",
    "batch_slice",
    "clear",
    "converted",
    "coords",
    "coverage",
    "empty",
    "kernel_array",
    "normal_equations",
    "output",
    "prepare_sample",
    "prepare_warp",
    "returned",
    "sample",
    "sample_jvp_coords",
    "sample_vjp_coords",
    "sample_vjp_images",
    "sample_vjp_jvp_coords",
    "sample_vjp_jvp_images",
    "spline_grid",
    "spline_groups",
    "spline_memory",
    "spline_points",
    "spline_weights",
    "warp_crops",
]

# --- Grids ----------------------------------------------------------------------------------------


def affine_grid(theta, off, grid):
    """Fill ``grid``, (N, H_out, W_out, 2) or (N, D_out, H_out, W_out, 3), from ``theta``."""
    if len(grid.shape) == 5:
        general.affine_grid(theta, off, grid)
        return
    geometry = grid_geometry(narrow(grid), off, theta, grid.shape[:3])
    launch_pixels(make_affine_grid(), geometry, theta, geometry, grid)


def affine_grid_vjp(dgrid, off, dtheta):
    """Fill ``dtheta``, (N, 2, 3) or (N, 3, 4), from ``dgrid``."""
    if len(dgrid.shape) == 5:
        general.affine_grid_vjp(dgrid, off, dtheta)
        return
    geometry = grid_geometry(narrow(dgrid), off, dgrid, dgrid.shape[:3])
    sum_theta(make_affine_grid_vjp(dgrid.dtype.type), geometry, dtheta, dgrid, geometry)


# --- Samplers -------------------------------------------------------------------------------------


def prepare_sample(kind, images_shape, dtype, off, fill, shape):
    """A function ``write(images, coords, samples)``; on the GPU, nothing depends on the shapes."""

    def write(images, coords, samples):
        sample(kind, images, coords, off, fill, samples)

    return write


def sample(kind, images, coords, off, fill, samples):
    """Fill ``samples``; ``fill`` is read outside the images, a number for each channel."""
    if kind.needs_filter():
        _splines.sample(kind, images, coords, off, fill, samples)
        return
    if not _is_common(kind, images) or not alike(fill):
        general.sample(kind, images, coords, off, fill, samples)
        return
    geometry = geometry_of(kind, images, samples, coords, off)
    blocks = None if np.float64 in (images.dtype, coords.dtype) else 6
    kernel = make_sample(kind.source, kind.padding, blocks)
    launch_pixels(kernel, geometry, images, coords, fill[0], geometry, samples)


def sample_vjp_images(kind, dsamples, coords, off, dimages):
    """Fill ``dimages``, of the images' shape."""
    if kind.needs_filter():
        _splines.sample_vjp_images(kind, dsamples, coords, off, dimages)
        return
    if not _is_common(kind, dimages):
        general.sample_vjp_images(kind, dsamples, coords, off, dimages)
        return
    geometry = geometry_of(kind, dimages, dsamples, coords, off)
    if kind.source == AFFINE and kind.padding == ZEROS and len(dsamples):
        gather(dsamples, coords, geometry, dimages)
        return
    kernel = make_sample_vjp_images(kind.source, kind.padding, fraction_of(dsamples.dtype))
    sum_images(kernel, geometry, terms_of(geometry), dimages, dsamples, coords, geometry)


def sample_vjp_coords(kind, dsamples, images, coords, off, fill, dcoords):
    """Fill ``dcoords``: dgrid, or dtheta where the source is a matrix."""
    if kind.needs_filter():
        _splines.sample_vjp_coords(kind, dsamples, images, coords, off, fill, dcoords)
        return
    if not _is_common(kind, images) or not alike(fill):
        general.sample_vjp_coords(kind, dsamples, images, coords, off, fill, dcoords)
        return
    geometry = geometry_of(kind, images, dsamples, coords, off)
    number = fill[0] if len(fill) else fill.dtype.type(0)
    args = dsamples, images, coords, number, geometry
    if kind.source == AFFINE:
        sum_theta(make_theta_gradient(kind.padding, coords.dtype.type), geometry, dcoords, *args)
    else:
        launch_pixels(make_grid_gradient(kind.padding), geometry, *args, dcoords)


def sample_jvp_coords(kind, images, coords, coords_dot, off, fill, samples_dot):
    """Add to ``samples_dot`` what moving the coordinates by ``coords_dot`` changes."""
    target = _splines if kind.needs_filter() else jvp
    target.sample_jvp_coords(kind, images, coords, coords_dot, off, fill, samples_dot)


def sample_vjp_jvp_images(kind, dsamples, coords, coords_dot, off, dimages):
    """Fill ``dimages``: the tangent of the images' gradient for the coordinates' ``coords_dot``."""
    target = _splines if kind.needs_filter() else second_derivatives
    target.sample_vjp_jvp_images(kind, dsamples, coords, coords_dot, off, dimages)


def sample_vjp_jvp_coords(kind, dsamples, images, coords, coords_dot, off, fill, dcoords):
    """Fill ``dcoords``: the tangent of dgrid or dtheta for the coordinates' ``coords_dot``."""
    target = _splines if kind.needs_filter() else second_derivatives
    target.sample_vjp_jvp_coords(
        kind, dsamples, images, coords, coords_dot, off, fill, dcoords
    )  # fmt: skip


def normal_equations(kind, images, coords, residuals, off, fill, jtj, jtr):
    """Fill ``jtj``, (N, 6, 6), and ``jtr``, (N, 6)."""
    target = _splines if kind.needs_filter() else jvp
    target.normal_equations(kind, images, coords, residuals, off, fill, jtj, jtr)


def coverage(kind, coords, sides, off, covered):
    """Fill ``covered``: the share of each sample from inside, for images of these ``sides``."""
    general.coverage(kind.of_coefficients(), coords, sides, off, covered)


# --- One image ------------------------------------------------------------------------------------


def prepare_warp(kind, form, fills, image_shape, dtype, shape):
    """A function ``warp(image, matrix, out)``; on the GPU, nothing depends on the shapes."""
    if not kind.needs_filter():
        return interleaved.prepare_warp(kind, form, fills, image_shape, dtype, shape)
    return lambda image, matrix, out: _make_spline_warp(kind, image, fills)(matrix, out)


def warp_crops(kind, image, matrices, fills, crops):
    """Fill ``crops``, (K, H_out, W_out[, C]), from one image, by K matrices."""
    if kind.needs_filter():
        warp, each = _make_spline_warp(kind, image, fills), returned(crops)
        for k, matrix in enumerate(matrices):
            warp(matrix, kernel_array("out", each[k], crops.stream))
    else:
        interleaved.warp_crops(kind, image, matrices, fills, crops)


def _make_spline_warp(kind, image, fills):
    """A function ``warp(matrix, out)`` for one image (H, W[, C]), which is filtered once."""
    batch = replace(image, shape=(1, *image.shape[:2], prod(image.shape[2:])))
    real = computed(image.dtype)
    own, margin, found = _splines.filtered(kind, batch, 1.0, fills.astype(real))
    coefficients = replace(found, shape=found.shape[1:])

    def warp(matrix, out):
        numbers = out if out.dtype == real else empty(out.shape, real, out)
        moved = spline_lines.shifted(matrix.reshape(1, 3, 3), margin)[0]
        interleaved.warp_image(own, coefficients, moved, fills, numbers)
        if numbers is not out:
            spline_lines.store_samples(numbers, out)

    return warp


def _is_common(kind, images):
    """Whether the kernels of :mod:`.bilinear` take these images."""
    return kind.is_common() and images.dtype.kind == "f" and images.dtype.itemsize > 2


# These call the functions above for coefficients.
_splines = SplineSamplers(sys.modules[__name__], spline_lines)
