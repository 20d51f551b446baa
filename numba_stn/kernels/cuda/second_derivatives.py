"""CUDA kernels of second derivatives: how the gradients of samples change as coordinates move.

The counterpart of the CPU's :mod:`numba_stn.kernels.cpu.second_derivatives`. Arrays, ``kind`` and
``geometry`` are those of :mod:`.general`.
"""

import functools

import numpy as np

from ..cpu_launch import source_hash
from ..math.coordinates import base_coordinate, unnormalize_slope
from ..math.curvatures import SLOPE_BITS, eight_curvatures
from ..math.fixed_point import bits_are_finite, fixed_point_scale
from ..math.matrix_rows import quotient_vjp_jvp
from ..math.padding import padded_tangent, slope_times
from ..math.sampler_kind import BILINEAR, GRID, NEAREST, PROJECTIVE
from .convert import clear, plain
from .coordinate_sources import input_pixel, input_pixel_dot, row_of, write_grid_gradient
from .device import THREADS, cuda, empty, inlined, jit, launch_pixels, narrow
from .general import sampled_pixel, slice_of, theta_gradient_row, theta_size
from .jvp import tangent_slice
from .kernel_arguments import geometry_of, outside, terms_of
from .layout import Geometry, channel_steps, element, sample_start
from .loops import block_part, each_pixel, sum_pixels
from .sums import add_rows, add_to_rows, fraction_of, no_rows, sum_images, sum_theta
from .taps import (
    Images,
    Taps,
    add_taps,
    fill_of,
    form_of,
    locate,
    sample_slopes,
    taps_at,
    weight_slopes_at,
    weighted_sum,
)

# --- The images' gradient -------------------------------------------------------------------------
#
# The weights of a sample change by the sum over axes of (slope along the axis) pixel_dot. The terms
# of a sum of integers need a bound in advance (:mod:`.sums`). So ``dsamples pixel_dot`` is computed
# first, for each axis, and then added to the images with the slopes of the weights.


@inlined
def elements_of_samples(g):
    """The number of elements of all samples."""
    (_, batch, channels), (d, h, w) = g.counts, g.sizes
    return type(w)(batch * channels * d * h * w)


@inlined
def moved_pixel(call, g, common, where):
    """Write the products of one output pixel's ``dsamples`` and the tangent of its position."""
    kind, coords, coords_dot, dsamples, moved = call
    _, k, i, _ = where
    rows = row_of(common.theta, k, i, g), row_of(common.theta_dot, k, i, g)
    pixel = input_pixel(kind, coords, rows[0], where, g)
    x, y, z = input_pixel_dot(kind, coords_dot, rows, where, pixel, g)
    position, at = locate(kind, pixel, g), sample_start(kind, g, where)
    sz, sy, sx = position.slopes
    index, none = type(at), type(x)(0)
    inside, c = position.inside, index(0)
    x = padded_tangent(sx, x) if inside else none
    y = padded_tangent(sy, y) if inside else none
    z = padded_tangent(sz, z) if inside else none
    real, step_out = moved.dtype.type, channel_steps(kind, g)[1]
    size = elements_of_samples(g)
    while c < g.counts[2]:
        d = element(dsamples, at)
        moved[np.uint64(at)] = slope_times(d, real(x))
        moved[np.uint64(index(at + size))] = slope_times(d, real(y))
        if kind.dims == 3:
            moved[np.uint64(index(at + size + size))] = slope_times(d, real(z))
        at, c = index(at + step_out), index(c + 1)


@functools.cache
def make_moved(kind):
    """Kernel: dsamples, coords, coords_dot -> their products, (axes, ...)."""
    sources = source_hash()

    def moved_samples(dsamples, coords, coords_dot, geometry, moved):
        _ = sources
        call = kind, coords, coords_dot, dsamples, moved
        each_pixel(tangent_slice, moved_pixel, kind.dims, call, Geometry(*geometry))

    return jit(moved_samples)


@inlined
def scatter_moved(call, g, common, where):
    """Add the products of one output pixel, times slopes, to the totals of the image's pixels."""
    kind, _, moved, scale, totals = call
    real, index, to = moved.dtype.type, type(where[3]), common.start
    at, (step, step_out) = sample_start(kind, g, where), channel_steps(kind, g)
    position = locate(kind, sampled_pixel(call, g, common, where), g)
    offsets, (wz, wy, wx) = taps_at(kind, position, real)
    vz, vy, vx = weight_slopes_at(kind, position, real)
    along_x, along_y = Taps(offsets, (wz, wy, vx)), Taps(offsets, (wz, vy, wx))
    size = elements_of_samples(g)
    c = index(0) if position.inside else g.counts[2]
    while c < g.counts[2]:
        add_taps(kind, totals, to, along_x, element(moved, at), scale)
        add_taps(kind, totals, to, along_y, element(moved, index(at + size)), scale)
        if kind.dims == 3:
            value = element(moved, index(at + size + size))
            add_taps(kind, totals, to, Taps(offsets, (vz, wy, wx)), value, scale)
        to, at, c = index(to + step), index(at + step_out), index(c + 1)


@functools.cache
def make_scatter_moved(kind, fraction):
    """Kernel: products of :func:`make_moved`, coords -> each pixel's sum as an integer."""
    sources = source_hash()

    def scatter(moved, coords, geometry, peak, terms, totals):
        _ = sources
        if not bits_are_finite(peak[0], fraction):
            return
        scale = fixed_point_scale(peak[0], fraction, terms, moved.dtype.type(1))
        call = kind, coords, moved, scale, totals
        each_pixel(slice_of, scatter_moved, kind.dims, call, Geometry(*geometry))

    return jit(scatter)


def sample_vjp_jvp_images(kind, dsamples, coords, coords_dot, off, dimages):
    """Fill ``dimages``."""
    moved = empty((kind.dims, *dsamples.shape), dsamples.dtype, dsamples)
    index = narrow(dimages, moved, coords)
    geometry = geometry_of(kind, dimages, dsamples, coords, off, index)
    if dsamples.size:
        launch_pixels(make_moved(kind), geometry, dsamples, coords, coords_dot, geometry, moved)
    kernel = make_scatter_moved(kind, fraction_of(dsamples.dtype))
    most = terms_of(geometry) << SLOPE_BITS[kind.mode]
    sum_images(kernel, geometry, most, dimages, moved, coords, geometry)


# --- The coordinates' gradient --------------------------------------------------------------------


@inlined
def weight_curvatures_at(kind, position, real):
    """Second derivatives of the weights of :func:`.taps.taps_at` along z, y and x."""
    t = position.fractions
    return (
        eight_curvatures(real(t[0]), kind.mode if kind.dims == 3 else NEAREST),
        eight_curvatures(real(t[1]), kind.mode),
        eight_curvatures(real(t[2]), kind.mode),
    )


@inlined
def pixel_gradient_dot(kind, images, start, moving, g, dsamples, at):
    """Gradient with respect to an input pixel coordinate, and its tangent, summed over channels.

    ``moving`` is the coordinate and its tangent. The gradient itself is needed, and computed, for
    projective maps only.
    """
    (pixel, pixel_dot), real, index, zero = moving, type(images.fill[0]), type(at), type(g.off)(0)
    step, step_out = channel_steps(kind, g)
    position = locate(kind, pixel, g)
    if not position.inside:
        return (zero, zero, zero), (zero, zero, zero)
    taps, slopes = taps_at(kind, position, real), weight_slopes_at(kind, position, real)
    curvatures = weight_curvatures_at(kind, position, real)
    gx, gy, gz, c, none = real(0), real(0), real(0), index(0), real(0)
    straight, mixed = (none, none, none), (none, none, none)
    while c < g.counts[2]:
        d, fill = element(dsamples, at), fill_of(images.fill, c)
        if kind.source == PROJECTIVE:
            x, y, z = sample_slopes(kind, images, start, taps, slopes, fill)
            gx, gy, gz = gx + d * x, gy + d * y, gz + d * z
        if kind.mode > BILINEAR:
            found = straight_curvatures(kind, images, start, (taps, curvatures), fill)
            straight = add_scaled(straight, found, d)
        found = mixed_curvatures(kind, images, start, (taps, slopes), fill)
        mixed = add_scaled(mixed, found, d)
        start, at, c = index(start + step), index(at + step_out), index(c + 1)
    sz, sy, sx = position.slopes
    x, y = padded_tangent(sx, pixel_dot[0]), padded_tangent(sy, pixel_dot[1])
    z = padded_tangent(sz, pixel_dot[2])
    coord = type(g.off)
    xx, yy, zz = coord(straight[0]), coord(straight[1]), coord(straight[2])
    xy, xz, yz = coord(mixed[0]), coord(mixed[1]), coord(mixed[2])
    gradient = (
        padded_tangent(sx, coord(gx)), padded_tangent(sy, coord(gy)), padded_tangent(sz, coord(gz)),
    )  # fmt: skip
    return gradient, (
        padded_tangent(sx, slope_times(xx, x) + slope_times(xy, y) + slope_times(xz, z)),
        padded_tangent(sy, slope_times(xy, x) + slope_times(yy, y) + slope_times(yz, z)),
        padded_tangent(sz, slope_times(xz, x) + slope_times(yz, y) + slope_times(zz, z)),
    )


@inlined
def add_scaled(total, found, d):
    """``total + d found`` of three numbers each."""
    return total[0] + d * found[0], total[1] + d * found[1], total[2] + d * found[2]


@inlined
def straight_curvatures(kind, images, start, weights, fill):
    """Second derivatives of one channel's sample along x, y and z.

    ``weights`` are taps, and second derivatives of their weights.
    """
    (offsets, (wz, wy, wx)), (cz, cy, cx) = weights
    x = weighted_sum(kind, images, start, Taps(offsets, (wz, wy, cx)), fill)
    y = weighted_sum(kind, images, start, Taps(offsets, (wz, cy, wx)), fill)
    z = type(fill)(0)
    if kind.dims == 3:
        z = weighted_sum(kind, images, start, Taps(offsets, (cz, wy, wx)), fill)
    return x, y, z


@inlined
def mixed_curvatures(kind, images, start, weights, fill):
    """Second derivatives of one channel's sample along x and y, x and z, and y and z.

    ``weights`` are taps, and slopes of their weights.
    """
    (offsets, (wz, wy, wx)), (vz, vy, vx) = weights
    xy = weighted_sum(kind, images, start, Taps(offsets, (wz, vy, vx)), fill)
    xz = yz = type(fill)(0)
    if kind.dims == 3:
        xz = weighted_sum(kind, images, start, Taps(offsets, (vz, wy, vx)), fill)
        yz = weighted_sum(kind, images, start, Taps(offsets, (vz, vy, wx)), fill)
    return xy, xz, yz


@inlined
def grid_gradient_dot_pixel(call, g, common, where):
    """Write the tangent of the gradient with respect to one coordinate of the grid."""
    kind, grid, grid_dot, images, dsamples, dgrid = call
    _, k, i, _ = where
    row, at = row_of(common.theta, k, i, g), sample_start(kind, g, where)
    pixel = input_pixel(kind, grid, row, where, g)
    moving = pixel, input_pixel_dot(kind, grid_dot, (row, row), where, pixel, g)
    _, g_dot = pixel_gradient_dot(kind, images, common.start, moving, g, dsamples, at)
    write_grid_gradient(kind, dgrid, where, g_dot, g)


@functools.cache
def make_grid_gradient_dot(kind, form):
    """Kernel: dsamples, images, grid, grid_dot -> the tangent of dgrid."""
    sources = source_hash()

    def grid_gradient_dot(dsamples, images, grid, grid_dot, fill, geometry, dgrid):
        _ = sources
        call = kind, grid, grid_dot, Images(images, form, fill), dsamples, dgrid
        each_pixel(slice_of, grid_gradient_dot_pixel, kind.dims, call, Geometry(*geometry))

    return jit(grid_gradient_dot)


@inlined
def theta_gradient_dot_row(call, g, common, n, k, i):
    """The rows of theta and of its tangent on one output row, and the row's y and z."""
    row, y, z = theta_gradient_row(call, g, common, n, k, i)
    return (row, row_of(common.theta_dot, k, i, g)), y, z


@inlined
def theta_gradient_dot_pixel(call, g, common, row, sums, where):
    """Add the tangent of the gradient of one output pixel with respect to theta."""
    kind, coords, coords_dot, images, dsamples = call
    (rows, y, z), j = row, where[3]
    pixel, at = input_pixel(kind, coords, rows[0], where, g), sample_start(kind, g, where)
    moving = pixel, input_pixel_dot(kind, coords_dot, rows, where, pixel, g)
    gradients = pixel_gradient_dot(kind, images, common.start, moving, g, dsamples, at)
    gradient = theta_row_gradients_dot(kind.source, rows, j, moving, gradients, g)
    return add_to_rows(sums, gradient, base_coordinate(j, g.sizes[2], g.off), y, z)


@inlined
def theta_row_gradients_dot(source, rows, j, moving, gradients, g):
    """Tangents of :func:`.coordinate_sources.theta_row_gradients`."""
    off, (d, h, w) = g.off, g.sides
    x, y, z = gradients[1]
    divisor = type(off)(0)
    if source == PROJECTIVE:
        x, y, z, divisor = quotient_vjp_jvp(rows[0], rows[1], j, moving, gradients, g.sides)
    return (
        x * unnormalize_slope(w, off),
        y * unnormalize_slope(h, off),
        z * unnormalize_slope(d, off),
        divisor,
    )


@functools.cache
def make_theta_gradient_dot(kind, form, real):
    """Kernel: dsamples, images, theta, theta_dot -> each block's sums of the tangent of dtheta."""
    sources, threads, numbers = source_hash(), THREADS, theta_size(kind)

    def theta_gradient_dot(dsamples, images, coords, coords_dot, fill, geometry, parts, partials):
        _ = sources
        shared = cuda.shared.array((numbers, threads), real)
        g, dims = Geometry(*geometry), kind.dims
        part = block_part(parts, g)
        call = kind, coords, coords_dot, Images(images, form, fill), dsamples
        sums = sum_pixels(
            tangent_slice, theta_gradient_dot_row, theta_gradient_dot_pixel, dims, call, g,
            no_rows(g.off), part,
        )  # fmt: skip
        add_rows(shared, sums, dims, part, partials)

    return jit(theta_gradient_dot)


def sample_vjp_jvp_coords(kind, dsamples, images, coords, coords_dot, off, fill, dcoords):
    """Fill ``dcoords``: the tangent of dgrid, or of dtheta."""
    if not dsamples.size:
        clear(dcoords)
        return
    geometry, form = geometry_of(kind, images, dsamples, coords, off), form_of(images.dtype)
    args = dsamples, plain(images), coords, coords_dot, outside(kind, fill, images), geometry
    if kind.source == GRID:
        launch_pixels(make_grid_gradient_dot(kind, form), geometry, *args, dcoords)
    else:
        kernel = make_theta_gradient_dot(kind, form, coords.dtype.type)
        sum_theta(kernel, geometry, dcoords, *args)
