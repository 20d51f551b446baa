"""CUDA kernels of every sampler: any mode, padding, dtype and layout, planes and volumes.

A kernel is a loop of :mod:`.loops` and a function that handles one pixel: the pixel that it samples
(:mod:`.coordinate_sources`), and what is read there (:mod:`.taps`). The common case has kernels of
its own, in :mod:`.bilinear`.

``kind`` is a :class:`.sampler_kind.Kind`, ``form`` how the images are stored, ``geometry`` has the
fields of :class:`.layout.Geometry`. ``fill`` is a tuple of one number, or an array with a number
for each channel.
"""

import functools
from typing import NamedTuple

import numpy as np

from ..cpu_launch import source_hash
from ..math.coordinates import base_coordinate
from ..math.fixed_point import bits_are_finite, fixed_point_scale
from ..math.interpolation import all_covered, weight_bits
from ..math.sampler_kind import AFFINE, GRID, PROJECTIVE, TAPS
from .convert import clear, plain
from .coordinate_sources import (
    input_pixel,
    row_of,
    theta_row_gradients,
    theta_rows,
    write_grid_gradient,
)
from .device import NARROW, THREADS, cuda, inlined, jit, launch_pixels, narrow
from .kernel_arguments import geometry_of, grid_geometry, off_of, outside, terms_of, typed
from .layout import Geometry, channel_steps, element, image_start, pixel_index, sample_start
from .loops import block_part, each_pixel, first_x, no_slice, sum_pixels
from .sums import add_rows, add_to_rows, fraction_of, no_rows, sum_images, sum_theta
from .taps import Images, add_taps, blend, form_of, locate, pixel_gradient, taps_at


class Slice(NamedTuple):
    """What the pixels of one slice have in common."""

    theta: tuple  # its rows
    start: int  # first element of the image


@inlined
def slice_of(call, g, n, k):
    """The :class:`Slice` of map n; ``call`` begins with the kind and the coordinates."""
    kind, coords = call[0], call[1]
    theta = theta_rows(kind.source, kind.dims, coords, n, g.off)
    return Slice(theta, image_start(kind, g, n))


@inlined
def sampled_pixel(call, g, common, where):
    """Input pixel that the output pixel ``where`` samples."""
    kind, coords = call[0], call[1]
    row = row_of(common.theta, where[1], where[2], g)
    return input_pixel(kind, coords, row, where, g)


# --- sample ---------------------------------------------------------------------------------------


@inlined
def sample_pixel(call, g, common, where):
    """Write the channels of one output pixel."""
    kind, _, images, samples = call
    pixel = sampled_pixel(call, g, common, where)
    blend(kind, images, common.start, pixel, g, samples, sample_start(kind, g, where))


@functools.cache
def make_sample(kind, form, blocks=None):
    """Kernel: images, coords -> samples; ``blocks`` are those of :func:`.device.jit`."""
    sources = source_hash()

    def sample(images, coords, fill, geometry, samples):
        _ = sources
        call = kind, coords, Images(images, form, fill), samples
        each_pixel(slice_of, sample_pixel, kind.dims, call, Geometry(*geometry))

    return jit(sample, blocks)


@inlined
def pixel_coverage(call, g, common, where):
    """Write how much of one output pixel comes from inside the image."""
    kind, _, covered = call
    pixel = sampled_pixel(call, g, common, where)
    found = all_covered(pixel, g.sides, kind.mode, kind.padding, kind.dims, g.off)
    covered[np.uint64(pixel_index(where, g.sizes))] = found


@functools.cache
def make_coverage(kind):
    """Kernel: coords -> how much of each sample comes from inside the image."""
    sources = source_hash()

    def coverage(coords, geometry, covered):
        _ = sources
        each_pixel(
            slice_of, pixel_coverage, kind.dims, (kind, coords, covered), Geometry(*geometry)
        )

    return jit(coverage)


# --- dimages --------------------------------------------------------------------------------------


@inlined
def scatter_pixel(call, g, common, where):
    """Add the gradient of one output pixel to the totals of the image's pixels."""
    kind, _, dsamples, scale, totals = call
    index, to, at = type(where[3]), common.start, sample_start(kind, g, where)
    step, step_out = channel_steps(kind, g)
    position = locate(kind, sampled_pixel(call, g, common, where), g)
    taps = taps_at(kind, position, dsamples.dtype.type)
    c = index(0) if position.inside else g.counts[2]
    while c < g.counts[2]:
        add_taps(kind, totals, to, taps, element(dsamples, at), scale)
        to, at, c = index(to + step), index(at + step_out), index(c + 1)


@functools.cache
def make_sample_vjp_images(kind, fraction):
    """Kernel: dsamples, coords -> each pixel's sum as an integer."""
    sources = source_hash()

    def sample_vjp_images(dsamples, coords, geometry, peak, terms, totals):
        _ = sources
        if not bits_are_finite(peak[0], fraction):
            return
        scale = fixed_point_scale(peak[0], fraction, terms, dsamples.dtype.type(1))
        call = kind, coords, dsamples, scale, totals
        each_pixel(slice_of, scatter_pixel, kind.dims, call, Geometry(*geometry))

    return jit(sample_vjp_images)


# --- dcoords: dgrid, or theta's gradient ----------------------------------------------------------


@inlined
def grid_gradient_pixel(call, g, common, where):
    """Write the gradient of one output pixel with respect to its coordinate in the grid."""
    kind, _, images, dsamples, dgrid = call
    pixel, at = sampled_pixel(call, g, common, where), sample_start(kind, g, where)
    gradient = pixel_gradient(kind, images, common.start, pixel, g, dsamples, at)
    write_grid_gradient(kind, dgrid, where, gradient, g)


@functools.cache
def make_grid_gradient(kind, form):
    """Kernel: dsamples, images, grid -> dgrid."""
    sources = source_hash()

    def grid_gradient(dsamples, images, grid, fill, geometry, dgrid):
        _ = sources
        call = kind, grid, Images(images, form, fill), dsamples, dgrid
        each_pixel(slice_of, grid_gradient_pixel, kind.dims, call, Geometry(*geometry))

    return jit(grid_gradient)


@inlined
def row_yz(call, g, common, n, k, i):
    """The normalised y and z of the row."""
    depth, rows, _ = g.sizes
    return base_coordinate(i, rows, g.off), base_coordinate(k, depth, g.off)


@inlined
def theta_gradient_row(call, g, common, n, k, i):
    """The row of theta on one output row, and the row's y and z."""
    y, z = row_yz(call, g, common, n, k, i)
    return row_of(common.theta, k, i, g), y, z


@inlined
def theta_gradient_pixel(call, g, common, row, sums, where):
    """Add the gradient of one output pixel with respect to theta."""
    kind, coords, images, dsamples = call
    (row, y, z), j = row, where[3]
    pixel, at = input_pixel(kind, coords, row, where, g), sample_start(kind, g, where)
    gradient = pixel_gradient(kind, images, common.start, pixel, g, dsamples, at)
    gradient = theta_row_gradients(kind.source, row, j, pixel, gradient, g)
    return add_to_rows(sums, gradient, base_coordinate(j, g.sizes[2], g.off), y, z)


@functools.cache
def make_theta_gradient(kind, form, real):
    """Kernel: dsamples, images, theta -> each block's sums of theta's gradient."""
    sources, threads, numbers = source_hash(), THREADS, theta_size(kind)

    def theta_gradient(dsamples, images, coords, fill, geometry, parts, partials):
        _ = sources
        shared = cuda.shared.array((numbers, threads), real)
        g, dims = Geometry(*geometry), kind.dims
        part = block_part(parts, g)
        call, sums = (kind, coords, Images(images, form, fill), dsamples), no_rows(g.off)
        sums = sum_pixels(
            slice_of, theta_gradient_row, theta_gradient_pixel, dims, call, g, sums, part
        )
        add_rows(shared, sums, dims, part, partials)

    return jit(theta_gradient, 2 if TAPS[kind.mode] >= 4 and real == np.float32 else None)


def theta_size(kind):
    """The number of entries of a theta."""
    return (kind.dims + (kind.source == PROJECTIVE)) * (kind.dims + 1)


# --- affine_grid of volumes -----------------------------------------------------------------------


@inlined
def volume_slice(call, g, n, k):
    """The rows of theta, and the z of one slice."""
    return theta_rows(AFFINE, 3, call[0], n, g.off), base_coordinate(k, g.sizes[0], g.off)


@inlined
def write_volume_coordinate(call, g, common, where):
    """Write the coordinate of one output pixel."""
    (_, u, grid), ((x, y, z, _), w) = call, common
    v, to = base_coordinate(where[2], g.sizes[1], g.off), np.uint64(3 * pixel_index(where, g.sizes))
    grid[to] = x[0] * u + x[1] * v + x[2] * w + x[3]
    grid[to + np.uint64(1)] = y[0] * u + y[1] * v + y[2] * w + y[3]
    grid[to + np.uint64(2)] = z[0] * u + z[1] * v + z[2] * w + z[3]


@functools.cache
def make_affine_volume():
    """Kernel: theta (N, 3, 4) -> grid."""
    sources = source_hash()

    def affine_grid(theta, geometry, grid):
        _ = sources
        g = Geometry(*geometry)
        each_pixel(volume_slice, write_volume_coordinate, 3, (theta, first_x(g), grid), g)

    return jit(affine_grid)


@inlined
def volume_grid_gradient(call, g, common, row, sums, where):
    """Add the gradient of one grid coordinate with respect to theta."""
    (dgrid,), (y, z), j = call, row, where[3]
    at = type(j)(3 * pixel_index(where, g.sizes))
    none = type(g.off)(0)
    gradient = element(dgrid, at), element(dgrid, at + 1), element(dgrid, at + 2), none
    return add_to_rows(sums, gradient, base_coordinate(j, g.sizes[2], g.off), y, z)


@functools.cache
def make_affine_volume_vjp(real):
    """Kernel: dgrid -> each block's sums of theta's gradient."""
    sources, threads = source_hash(), THREADS

    def affine_grid_vjp(dgrid, geometry, parts, partials):
        _ = sources
        shared = cuda.shared.array((12, threads), real)
        g = Geometry(*geometry)
        part, sums = block_part(parts, g), no_rows(g.off)
        sums = sum_pixels(no_slice, row_yz, volume_grid_gradient, 3, (dgrid,), g, sums, part)
        add_rows(shared, sums, 3, part, partials)

    return jit(affine_grid_vjp)


# --- What :mod:`.backend` calls -------------------------------------------------------------------


def affine_grid(theta, off, grid):
    """Fill ``grid``, (N, D_out, H_out, W_out, 3)."""
    geometry = grid_geometry(narrow(grid), off, theta, grid.shape[:4])
    launch_pixels(make_affine_volume(), geometry, theta, geometry, grid)


def affine_grid_vjp(dgrid, off, dtheta):
    """Fill ``dtheta``, (N, 3, 4)."""
    geometry = grid_geometry(narrow(dgrid), off, dgrid, dgrid.shape[:4])
    sum_theta(make_affine_volume_vjp(dgrid.dtype.type), geometry, dtheta, dgrid, geometry)


def sample(kind, images, coords, off, fill, samples):
    """Fill ``samples``."""
    geometry = geometry_of(kind, images, samples, coords, off)
    wide = np.float64 in (images.dtype, coords.dtype)
    blocks = 3 if TAPS[kind.mode] == 4 and not wide else None
    launch_pixels(
        make_sample(kind, form_of(images.dtype), blocks), geometry,
        plain(images), coords, outside(kind, fill, samples), geometry, plain(samples),
    )  # fmt: skip


def coverage(kind, coords, sides, off, covered):
    """Fill ``covered``, shaped as the samples without channels, for images with these sides."""
    index = narrow(coords, covered) if max(sides) < NARROW else np.int64
    geometry = coverage_geometry(index, off, coords, sides, covered)
    launch_pixels(make_coverage(kind), geometry, coords, geometry, covered)


def coverage_geometry(index, off, coords, sides, covered):
    """The geometry of a coverage: there are no images, only their sides."""
    sides, sizes = (typed(index, (1, *lengths)[-3:]) for lengths in (sides, covered.shape[1:]))
    batch = index(len(covered))
    return off_of(off, coords), (batch, batch, index(1)), sides, sizes


def sample_vjp_images(kind, dsamples, coords, off, dimages):
    """Fill ``dimages``."""
    geometry = geometry_of(kind, dimages, dsamples, coords, off)
    kernel = make_sample_vjp_images(kind, fraction_of(dsamples.dtype))
    most = terms_of(geometry) << weight_bits(kind)
    sum_images(kernel, geometry, most, dimages, dsamples, coords, geometry)


def sample_vjp_coords(kind, dsamples, images, coords, off, fill, dcoords):
    """Fill ``dcoords``: dgrid, or dtheta."""
    if not dsamples.size:
        clear(dcoords)
        return
    geometry, form = geometry_of(kind, images, dsamples, coords, off), form_of(images.dtype)
    args = dsamples, plain(images), coords, outside(kind, fill, images), geometry
    if kind.source == GRID:
        launch_pixels(make_grid_gradient(kind, form), geometry, *args, dcoords)
    else:
        sum_theta(make_theta_gradient(kind, form, coords.dtype.type), geometry, dcoords, *args)
