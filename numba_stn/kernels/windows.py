"""Sliding windows on the CPU: unfold and its adjoint fold, the largest of a window and its adjoint.

Every output element, and every image's gradient, is computed by one thread in a fixed order.
Shapes: images (N, C, H, W); windows of (k, k) pixels every ``stride`` pixels of the images padded
by ``padding`` zeros on each side give H_out = (H + 2 padding - k) // stride + 1, W_out alike.
"""

import functools

import numpy as np
from numba import prange

from . import launch
from .pixel import scalar


def output_side(side, kernel, stride, padding):
    """Windows that fit on a side."""
    return (side + 2 * padding - kernel) // stride + 1


@scalar
def valid(side, windows, offset, stride, padding):
    """First and last + 1 window whose element at ``offset`` lies on the side, not in padding."""
    before = max(0, -((offset - padding) // stride))
    after = max(0, (side - 1 - offset + padding) // stride + 1)
    return min(before, windows), min(after, windows)


# --- unfold: images -> columns --------------------------------------------------------------------
#
# Images stand batch last here, (C, H, W, N): with a stride of 1 a row of windows is then one run of
# W_out N numbers, in the image and in the column, and short rows cost no more than long ones.


@functools.cache
def make_unfold(strided, parallel):
    """Kernel: images (C, H, W N) -> columns (C k k, H_out, W_out N), a row for each element."""
    stamp = launch.stamp(parallel)

    def unfold(images, batch, kernel, step, padding, columns):
        stride = step if strided else 1
        h, w = images.shape[1], images.shape[2] // batch
        elements, rows, cols = columns.shape[0], columns.shape[1], columns.shape[2] // batch
        for e in prange(elements):
            c, dy, dx = e // (kernel * kernel), e // kernel % kernel, e % kernel
            top, bottom = valid(h, rows, dy, stride, padding)
            left, right = valid(w, cols, dx, stride, padding)
            if padding > 0:
                columns[e] = 0
            for i in range(top, bottom):
                source, target = images[c, i * stride + dy - padding], columns[e, i]
                for run in range(left, right if strided else left + 1):
                    start, at = (run * stride + dx - padding) * batch, run * batch
                    for k in range(batch if strided else (right - left) * batch):
                        target[at + k] = source[start + k]
        return stamp

    return launch.jit(unfold, parallel)


@functools.cache
def make_fold(strided, parallel):
    """Kernel: dcolumns -> dimages, every element added to the pixel it was copied from."""
    stamp = launch.stamp(parallel)

    def fold(dcolumns, batch, kernel, step, padding, dimages):
        stride = step if strided else 1
        h, w = dimages.shape[1], dimages.shape[2] // batch
        rows, cols = dcolumns.shape[1], dcolumns.shape[2] // batch
        for c in prange(dimages.shape[0]):
            dimages[c] = 0
            for dy in range(kernel):
                top, bottom = valid(h, rows, dy, stride, padding)
                for dx in range(kernel):
                    left, right = valid(w, cols, dx, stride, padding)
                    e = (c * kernel + dy) * kernel + dx
                    for i in range(top, bottom):
                        source, target = dcolumns[e, i], dimages[c, i * stride + dy - padding]
                        for run in range(left, right if strided else left + 1):
                            start, at = (run * stride + dx - padding) * batch, run * batch
                            for k in range(batch if strided else (right - left) * batch):
                                target[start + k] += source[at + k]
        return stamp

    return launch.jit(fold, parallel)


# --- max_pool: images -> largest of each window ---------------------------------------------------


@functools.cache
def make_max_pool(parallel):
    """Kernel: images -> largest value of each window, and which element it was (the first)."""
    stamp = launch.stamp(parallel)

    def max_pool(images, kernel, stride, largest, which):
        batch, channels, rows, cols = largest.shape
        for task in prange(batch * channels):
            n, c = task // channels, task % channels
            for i in range(rows):
                for j in range(cols):
                    y, x = i * stride, j * stride
                    best, index = images[n, c, y, x], 0
                    for dy in range(kernel):
                        for dx in range(kernel):
                            value = images[n, c, y + dy, x + dx]
                            larger = value > best or value != value  # NaN is passed on
                            best = value if larger else best
                            index = dy * kernel + dx if larger else index
                    largest[n, c, i, j] = best
                    which[n, c, i, j] = index
        return stamp

    return launch.jit(max_pool, parallel)


@functools.cache
def make_max_pool_vjp(parallel):
    """Kernel: dlargest -> dimages, each gradient given to the element that was largest."""
    stamp = launch.stamp(parallel)

    def max_pool_vjp(dlargest, which, kernel, stride, dimages):
        batch, channels, rows, cols = dlargest.shape
        for task in prange(batch * channels):
            n, c = task // channels, task % channels
            dimages[n, c] = 0
            for i in range(rows):
                for j in range(cols):
                    e = np.int64(which[n, c, i, j])
                    y, x = i * stride + e // kernel, j * stride + e % kernel
                    dimages[n, c, y, x] += dlargest[n, c, i, j]
        return stamp

    return launch.jit(max_pool_vjp, parallel)


# --- What the layers call -------------------------------------------------------------------------


def unfold(images, kernel, stride, padding):
    """Images (C, H, W, N) -> columns (C k k, H_out, W_out, N)."""
    channels, h, w, batch = images.shape
    sides = [output_side(side, kernel, stride, padding) for side in (h, w)]
    columns = np.empty((channels * kernel * kernel, *sides, batch), images.dtype)
    if columns.size:
        launch.run(
            make_unfold, (int(stride > 1),), columns.size,
            _long_rows(images), batch, kernel, stride, padding, _long_rows(columns),
        )  # fmt: skip
    return columns


def fold(dcolumns, shape, kernel, stride, padding):
    """Adjoint of :func:`unfold`: columns -> images of ``shape``."""
    dimages = np.empty(shape, dcolumns.dtype)
    if dimages.size:
        launch.run(
            make_fold, (int(stride > 1),), dcolumns.size,
            _long_rows(dcolumns), shape[3], kernel, stride, padding, _long_rows(dimages),
        )  # fmt: skip
    return dimages


def _long_rows(array):
    """(A, B, C, N) -> (A, B, C N)."""
    return np.ascontiguousarray(array).reshape(*array.shape[:2], -1)


def max_pool(images, kernel, stride):
    """Largest value of each window, (N, C, H_out, W_out), and its element's number in it."""
    shape = (
        *images.shape[:2],
        *(output_side(side, kernel, stride, 0) for side in images.shape[2:]),
    )
    largest, which = (
        np.empty(shape, images.dtype),
        np.empty(shape, np.uint16 if kernel < 256 else np.int64),
    )
    images = np.ascontiguousarray(images)
    launch.run(make_max_pool, (), images.size, images, kernel, stride, largest, which)
    return largest, which


def max_pool_vjp(dlargest, which, shape, kernel, stride):
    """Adjoint of :func:`max_pool` at the images whose elements ``which`` names."""
    dimages = np.empty(shape, dlargest.dtype)
    dlargest = np.ascontiguousarray(dlargest)
    launch.run(make_max_pool_vjp, (), dimages.size, dlargest, which, kernel, stride, dimages)
    return dimages
