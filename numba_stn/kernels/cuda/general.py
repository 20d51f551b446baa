"""CUDA kernels of every sampler: any mode, padding, dtype and layout, planes and volumes.

The family of :mod:`.general`: a coordinate source (:mod:`.coordinate_sources`), what is read around
a coordinate (:mod:`.taps`, with the scalar math of :mod:`.interpolation`), and the loops, which
stand here. :mod:`.backend` has kernels of their own for the common case, and says what holds for
all.

A block's tile is of one slice of the output; a slice is a sample's, at one depth. ``counts`` are
(images, maps, channels), ``sides`` and ``sizes`` the (D, H, W) of images and output, of the type of
all indices. ``fill`` is a tuple of one number, or an array with one for each channel.
"""

import functools

import numpy as np

from ..launch import source_hash
from ..math.coordinates import GRID, PROJECTIVE, base_coordinate, bits_are_finite, fixed_point_scale
from ..math.interpolation import SPREAD, all_covered
from .calls import off_of, outside, shapes_of, tiles_of, typed
from .convert import clear, plain
from .coordinate_sources import matrix, place_of, point, pull, row_of, write_slopes
from .device import BLOCK, NARROW, THREADS, cuda, jit, launch, narrow
from .single_pixels import element, first_place, next_row
from .sums import add_rows, add_to_rows, fraction_of, no_rows, sum_images, sum_theta
from .taps import add_taps, blend, form_of, locate, slopes_of, strides, weights_at

# --- sample ---------------------------------------------------------------------------------------


@functools.cache
def make_sample(kind, form):
    """Kernel: images, coords -> samples."""
    sources, (source, mode, padding, dims, last, _) = source_hash(), kind
    rule = mode, padding, dims

    def sample(images, coords, off, fill, counts, sides, sizes, samples):
        _ = sources
        count, batch, channels = counts
        depth, rows, columns = sizes
        index = type(columns)
        image, step, along = strides(channels, sides, last)
        whole, step_out, along_out = strides(channels, sizes, last)
        part, first, j = first_place(index)
        while j < columns and part < batch * depth:
            n, k, i = index(part // depth), index(part % depth), first
            start = index(n * image) if count > 1 else index(0)
            theta, steps = matrix(source, dims, coords, n, off), (step, step_out, along)
            while i < rows:
                row = row_of(theta, k, i, sides, sizes, off)
                pixel = point(source, dims, coords, row, (n, k, i, j), sides, sizes, off)
                to = index(n * whole + place_of(index(0), k, i, j, sizes) * along_out)
                blend(
                    images, start, steps, pixel, sides, rule, off, fill, channels, form, samples, to
                )
                i = index(next_row(i))
            part = index(part + cuda.gridDim.z)

    return jit(sample)


@functools.cache
def make_covered(kind):
    """Kernel: coords -> how much of each sample comes from inside."""
    sources, (source, mode, padding, dims, _, _) = source_hash(), kind

    def coverage(coords, off, batch, sides, sizes, covered):
        _ = sources
        depth, rows, columns = sizes
        index = type(columns)
        part, first, j = first_place(index)
        while j < columns and part < batch * depth:
            n, k, i = index(part // depth), index(part % depth), first
            theta = matrix(source, dims, coords, n, off)
            while i < rows:
                row = row_of(theta, k, i, sides, sizes, off)
                pixel = point(source, dims, coords, row, (n, k, i, j), sides, sizes, off)
                found = all_covered(pixel, sides, mode, padding, dims, off)
                covered[np.uint64(place_of(n, k, i, j, sizes))] = found
                i = index(next_row(i))
            part = index(part + cuda.gridDim.z)

    return jit(coverage)


# --- dimages --------------------------------------------------------------------------------------


@functools.cache
def make_sample_vjp_images(kind, fraction):
    """Kernel: dsamples, coords -> each pixel's sum as an integer."""
    sources, (source, mode, padding, dims, last, _) = source_hash(), kind
    rule = mode, padding, dims

    def sample_vjp_images(dsamples, coords, off, counts, sides, sizes, peak, terms, totals):
        _ = sources
        real = dsamples.dtype.type
        count, batch, channels = counts
        depth, rows, columns = sizes
        index = type(columns)
        if not bits_are_finite(peak[0], fraction):
            return
        scale = fixed_point_scale(peak[0], fraction, terms, real(1))
        image, step, along = strides(channels, sides, last)
        whole, step_out, along_out = strides(channels, sizes, last)
        part, first, j = first_place(index)
        while j < columns and part < batch * depth:
            n, k, i = index(part // depth), index(part % depth), first
            theta = matrix(source, dims, coords, n, off)
            while i < rows:
                row = row_of(theta, k, i, sides, sizes, off)
                pixel = point(source, dims, coords, row, (n, k, i, j), sides, sizes, off)
                offsets, t, _, some = locate(pixel, sides, along, rule, off)
                weights = weights_at(t, rule, real)
                to = index(n * image) if count > 1 else index(0)
                at = index(n * whole + place_of(index(0), k, i, j, sizes) * along_out)
                c = index(0) if some else channels
                while c < channels:
                    add_taps(totals, to, offsets, weights, rule, element(dsamples, at), scale)
                    to, at, c = index(to + step), index(at + step_out), index(c + 1)
                i = index(next_row(i))
            part = index(part + cuda.gridDim.z)

    return jit(sample_vjp_images)


# --- dcoords: dgrid, or theta's gradient ----------------------------------------------------------


@functools.cache
def make_grid_gradient(kind, form):
    """Kernel: dsamples, images, grid -> dgrid."""
    sources, (source, mode, padding, dims, last, _) = source_hash(), kind
    rule = mode, padding, dims

    def grid_gradient(dsamples, images, grid, off, fill, counts, sides, sizes, dgrid):
        _ = sources
        count, batch, channels = counts
        depth, rows, columns = sizes
        index = type(columns)
        image, step, along = strides(channels, sides, last)
        whole, step_out, along_out = strides(channels, sizes, last)
        part, first, j = first_place(index)
        while j < columns and part < batch * depth:
            n, k, i = index(part // depth), index(part % depth), first
            start = index(n * image) if count > 1 else index(0)
            theta, steps = matrix(source, dims, grid, n, off), (step, step_out, along)
            while i < rows:
                row = row_of(theta, k, i, sides, sizes, off)
                pixel = point(source, dims, grid, row, (n, k, i, j), sides, sizes, off)
                at = index(n * whole + place_of(index(0), k, i, j, sizes) * along_out)
                slopes = slopes_of(
                    dsamples, at, images, start, steps, pixel, sides, rule, off, fill, channels,
                    form,
                )  # fmt: skip
                write_slopes(dgrid, dims, place_of(n, k, i, j, sizes), slopes, sides, off)
                i = index(next_row(i))
            part = index(part + cuda.gridDim.z)

    return jit(grid_gradient)


@functools.cache
def make_theta_gradient(kind, form, real):
    """Kernel: dsamples, images, theta -> each block's sums of theta's gradient."""
    sources, (source, mode, padding, dims, last, _) = source_hash(), kind
    (x_block, y_block), threads, rule = BLOCK, THREADS, (mode, padding, dims)
    numbers = numbers_of(source, dims)

    def theta_gradient(dsamples, images, coords, off, fill, counts, sides, sizes, parts, partials):
        _ = sources
        shared = cuda.shared.array((numbers, threads), real)
        count, _, channels = counts
        depth, rows, columns = sizes
        index = type(columns)
        n, part = index(cuda.blockIdx.x // parts), index(cuda.blockIdx.x % parts)
        theta = matrix(source, dims, coords, n, off)
        image, step, along = strides(channels, sides, last)
        whole, step_out, along_out = strides(channels, sizes, last)
        start = index(n * image) if count > 1 else index(0)
        steps, sums = (step, step_out, along), no_rows(off)
        line = index(part * y_block + cuda.threadIdx.y)
        while line < depth * rows:
            k, i = index(line // rows), index(line % rows)
            row = row_of(theta, k, i, sides, sizes, off)
            v, u = base_coordinate(i, rows, off), base_coordinate(k, depth, off)
            j = index(cuda.threadIdx.x)
            while j < columns:
                pixel = point(source, dims, coords, row, (n, k, i, j), sides, sizes, off)
                at = index(n * whole + place_of(index(0), k, i, j, sizes) * along_out)
                slopes = slopes_of(
                    dsamples, at, images, start, steps, pixel, sides, rule, off, fill, channels,
                    form,
                )  # fmt: skip
                found = pull(source, row, j, pixel, slopes, sides, off)
                sums = add_to_rows(sums, found, base_coordinate(j, columns, off), v, u)
                j = index(j + x_block)
            line = index(line + parts * y_block)
        add_rows(shared, sums, dims, n, part, parts, partials)

    return jit(theta_gradient)


def numbers_of(source, dims):
    """How many numbers a theta has."""
    return (dims + (source == PROJECTIVE)) * (dims + 1)


# --- affine_grid of volumes -----------------------------------------------------------------------


@functools.cache
def make_affine_volume():
    """Kernel: theta (N, 3, 4) -> grid."""
    sources = source_hash()

    def affine_grid(theta, off, batch, sizes, grid):
        _ = sources
        depth, rows, columns = sizes
        index, one, two = type(columns), np.uint64(1), np.uint64(2)
        part, first, j = first_place(index)
        u = base_coordinate(j, columns, off)
        while j < columns and part < batch * depth:
            n, k, i = index(part // depth), index(part % depth), first
            x, y, z, _ = matrix(-1, 3, theta, n, off)
            w = base_coordinate(k, depth, off)
            while i < rows:
                v, at = base_coordinate(i, rows, off), place_of(n, k, i, j, sizes)
                to = np.uint64(3 * at)
                grid[to] = x[0] * u + x[1] * v + x[2] * w + x[3]
                grid[to + one] = y[0] * u + y[1] * v + y[2] * w + y[3]
                grid[to + two] = z[0] * u + z[1] * v + z[2] * w + z[3]
                i = index(next_row(i))
            part = index(part + cuda.gridDim.z)

    return jit(affine_grid)


@functools.cache
def make_affine_volume_vjp(real):
    """Kernel: dgrid -> each block's sums of theta's gradient."""
    sources, (x_block, y_block), threads = source_hash(), BLOCK, THREADS

    def affine_grid_vjp(dgrid, off, sizes, parts, partials):
        _ = sources
        shared = cuda.shared.array((12, threads), real)
        depth, rows, columns = sizes
        index, sums = type(columns), no_rows(off)
        n, part = index(cuda.blockIdx.x // parts), index(cuda.blockIdx.x % parts)
        line = index(part * y_block + cuda.threadIdx.y)
        while line < depth * rows:
            k, i = index(line // rows), index(line % rows)
            v, u = base_coordinate(i, rows, off), base_coordinate(k, depth, off)
            j = index(cuda.threadIdx.x)
            while j < columns:
                at = index(3 * place_of(n, k, i, j, sizes))
                found = element(dgrid, at), element(dgrid, at + 1), element(dgrid, at + 2)
                sums = add_to_rows(sums, found, base_coordinate(j, columns, off), v, u)
                j = index(j + x_block)
            line = index(line + parts * y_block)
        add_rows(shared, sums, 3, n, part, parts, partials)

    return jit(affine_grid_vjp)


# --- What :mod:`.backend` calls -------------------------------------------------------------------


def affine_grid(theta, off, grid):
    """Fill ``grid``, (N, D_out, H_out, W_out, 3)."""
    index = narrow(grid)
    sizes = typed(index, grid.shape[1:4])
    launch(
        make_affine_volume(), tiles_of(len(theta), sizes), BLOCK,
        theta, off_of(off, theta), index(len(theta)), sizes, grid,
    )  # fmt: skip


def affine_grid_vjp(dgrid, off, dtheta):
    """Fill ``dtheta``, (N, 3, 4)."""
    sizes = typed(narrow(dgrid), dgrid.shape[1:4])
    kernel = make_affine_volume_vjp(dgrid.dtype.type)
    sum_theta(kernel, int(sizes[0]) * int(sizes[1]), dtheta, dgrid, off_of(off, dgrid), sizes)


def sample(kind, images, coords, off, fill, samples):
    """Fill ``samples``."""
    shapes = shapes_of(kind, images, samples, coords)
    launch(
        make_sample(kind, form_of(images.dtype)), tiles_of(len(samples), shapes[2]), BLOCK,
        plain(images), coords, off_of(off, coords), outside(kind, fill, samples), *shapes,
        plain(samples),
    )  # fmt: skip


def coverage(kind, coords, sides, off, covered):
    """Fill ``covered``, the samples' shape but for the channels, for images with such sides."""
    index = narrow(coords, covered) if max(sides) < NARROW else np.int64
    sides, sizes = (typed(index, (1, *lengths)[-3:]) for lengths in (sides, covered.shape[1:]))
    launch(
        make_covered(kind), tiles_of(len(covered), sizes), BLOCK,
        coords, off_of(off, coords), index(len(covered)), sides, sizes, covered,
    )  # fmt: skip


def sample_vjp_images(kind, dsamples, coords, off, dimages):
    """Fill ``dimages``."""
    counts, sides, sizes = shapes_of(kind, dimages, dsamples, coords)
    kernel = make_sample_vjp_images(kind, fraction_of(dsamples.dtype))
    most = int(np.prod(sizes, dtype=np.int64)) * (len(dsamples) if len(dimages) == 1 else 1)
    where = off_of(off, coords), counts, sides, sizes
    blocks = tiles_of(len(dsamples) if counts[2] else 0, sizes)
    sum_images(kernel, blocks, most << SPREAD[kind.mode], dsamples, coords, where, dimages)


def sample_vjp_coords(kind, dsamples, images, coords, off, fill, dcoords):
    """Fill ``dcoords``: dgrid, or dtheta."""
    if not dsamples.size:
        clear(dcoords)
        return
    shapes = shapes_of(kind, images, dsamples, coords)
    form, sizes = form_of(images.dtype), shapes[2]
    args = (
        dsamples, plain(images), coords, off_of(off, coords), outside(kind, fill, images), *shapes,
    )  # fmt: skip
    if kind.source == GRID:
        kernel = make_grid_gradient(kind, form)
        launch(kernel, tiles_of(len(dsamples), sizes), BLOCK, *args, dcoords)
    else:
        kernel = make_theta_gradient(kind, form, coords.dtype.type)
        sum_theta(kernel, int(sizes[0]) * int(sizes[1]), dcoords, *args)
