"""Samplers for your own compiled loops: functions of one point, for ``@njit`` and ``@cuda.jit``.

:func:`sampler` and :func:`sampler_with_gradient` return a function that samples one image (H, W),
or one volume (D, H, W), at one point. It is compiled into its caller: it runs no Python, allocates
nothing and checks no arguments. Coordinates are in pixels, with pixel centres at integers;
:func:`unnormalize` converts normalised coordinates to them.
"""

import functools
from collections.abc import Callable
from typing import Any

from ..kernels.math.coordinates import unnormalize as _unnormalize
from ..kernels.math.interpolation import SLOPES, WEIGHTS, locate_taps
from ..kernels.math.jit import python_callable, scalar
from ..kernels.math.padding import MISSING, tap_index
from ..kernels.math.sampler_kind import FILTERED, TAPS, ZEROS
from .docstrings import documented
from .validate import MODES, PADDINGS, corner_offset, look_up

_MODES = [name for name, number in MODES.items() if number < FILTERED]

__all__ = ["sampler", "sampler_with_gradient", "unnormalize"]


@documented
def sampler(
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    *,
    align_corners: bool = False,
    dims: int = 2,
) -> Callable[..., Any]:
    """Make a function that samples an image at one point, for calls from compiled code.

    ``f(image (H, W), x, y, fill) -> value``, or with ``dims=3``
    ``f(volume (D, H, W), x, y, z, fill) -> value``

    The value is computed in the type of the coordinates and has this type; ``fill`` is a number of
    the same type.

    Parameters
    ----------
    {point_mode, padding_mode}
    align_corners : bool
        Where reflection mirrors and where fill has its edges: at the centres of the outermost
        pixels (True) or at their outer edges (False).
    dims : {2, 3}
        Axes of the image.

    Returns
    -------
    f : function compiled by Numba
        The same function for the same arguments.

    Raises
    ------
    {errors}

    Examples
    --------
    The mean along a line through an image:

    >>> import numpy as np
    >>> from numba import njit
    >>> from numba_stn.ops.inline import sampler
    >>> sample = sampler("bilinear", "border")
    >>> @njit
    ... def along(image, y, count):
    ...     total = 0.0
    ...     for k in range(count):
    ...         total += sample(image, k * 0.5, y, 0.0)
    ...     return total / count
    >>> along(np.arange(12.0).reshape(3, 4), 1.5, 7)
    7.5
    """
    return _make_sampler(*_check_arguments(mode, padding_mode, align_corners, dims), gradient=False)


@documented
def sampler_with_gradient(
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    *,
    align_corners: bool = False,
    dims: int = 2,
) -> Callable[..., Any]:
    """Make a function that returns a sample and its slopes, for calls from compiled code.

    ``f(image (H, W), x, y, fill) -> value, slope_x, slope_y``, or with ``dims=3``
    ``f(volume (D, H, W), x, y, z, fill) -> value, slope_x, slope_y, slope_z``

    Slopes are per pixel. They are 0 where they are for :func:`numba_stn.grid_sample_vjp`: in the
    nearest mode, and where a coordinate is clipped.

    Parameters
    ----------
    mode, padding_mode, align_corners, dims
        As in :func:`sampler`.

    Returns
    -------
    f : function compiled by Numba
        The same function for the same arguments.

    Raises
    ------
    {errors}

    Examples
    --------
    >>> import numpy as np
    >>> from numba_stn.ops.inline import sampler_with_gradient
    >>> sample = sampler_with_gradient()
    >>> sample(np.arange(12.0).reshape(3, 4), 1.25, 0.5, 0.0)
    (3.25, 1.0, 4.0)
    """
    return _make_sampler(*_check_arguments(mode, padding_mode, align_corners, dims), gradient=True)


@python_callable
def unnormalize(c, size, align_corners):
    """Convert a normalised coordinate to a pixel coordinate, for calls from compiled code.

    ``c, size -> ((c + 1) size - 1) / 2``, or ``(c + 1) / 2 (size - 1)`` if corners are aligned.

    Parameters
    ----------
    c : float
        Normalised coordinate.
    size : int
        Pixels along the axis.
    align_corners : bool
        Whether -1 and 1 are the centres of the corner pixels (True) or their outer edges (False).

    Returns
    -------
    float
        Of the type of c.

    Examples
    --------
    >>> from numba_stn.ops.inline import unnormalize
    >>> unnormalize(0.0, 5, False), unnormalize(1.0, 5, True), unnormalize(1.0, 5, False)
    (2.0, 4.0, 4.5)
    """
    real = type(c)
    return _unnormalize(c, size, real(0) if align_corners else real(1))


def _check_arguments(mode, padding_mode, align_corners, dims):
    """Return the arguments as the kernels take them."""
    number = look_up("mode", mode, MODES)
    if dims not in (2, 3):
        raise ValueError(f"dims: expected 2 or 3, got {dims!r}")
    if number >= FILTERED:
        raise ValueError(f"mode: expected {', '.join(_MODES)}, since a spline needs the whole "
                         f"image filtered first, got {mode!r}")  # fmt: skip
    padding = look_up("padding_mode", padding_mode, PADDINGS)
    return number, padding, corner_offset(align_corners), dims


@functools.cache
def _make_sampler(mode, padding, off, dims, gradient):
    """Make one function per choice, so that its callers are compiled only once."""
    make_point = _make_volume_function if dims == 3 else _make_plane_function
    point = make_point(mode, padding, off)
    if gradient and dims == 3:
        return python_callable(lambda volume, x, y, z, fill: point(volume, x, y, z, fill))
    if gradient:
        return python_callable(lambda image, x, y, fill: point(image, x, y, fill))
    if dims == 3:
        return python_callable(lambda volume, x, y, z, fill: point(volume, x, y, z, fill)[0])
    return python_callable(lambda image, x, y, fill: point(image, x, y, fill)[0])


def _make_axis_function(mode, padding, off):
    """Make the function (coordinate, side) -> first tap, weights, their slopes, slope, inside."""
    weights_of, slopes_of = WEIGHTS[mode], SLOPES[mode]

    def axis(c, size):
        first, t, slope, inside = locate_taps(c, size, mode, padding, type(c)(off))
        return first, weights_of(t), slopes_of(t), slope, inside

    return scalar(axis)


def _make_plane_function(mode, padding, off):
    """Make the function (image, x, y, fill) -> value, slope in x, slope in y."""
    count, axis = TAPS[mode], _make_axis_function(mode, padding, off)

    def point(image, x, y, fill):
        real, (h, w) = type(x), image.shape
        ix, wx, sx, slope_x, inside_x = axis(x, w)
        iy, wy, sy, slope_y, inside_y = axis(y, h)
        value, dx, dy = real(0), real(0), real(0)
        if not (inside_x and inside_y):
            return real(fill), dx, dy
        for b in range(count):
            jx = tap_index(ix + b, w, mode, padding, real(off))
            for a in range(count):
                jy = tap_index(iy + a, h, mode, padding, real(off))
                if jx != MISSING and jy != MISSING:
                    found = real(image[jy, jx])
                elif padding == ZEROS:
                    found = real(fill)
                else:
                    continue
                value += found * wy[a] * wx[b] if wy[a] * wx[b] != real(0) else real(0)
                dx += found * wy[a] * sx[b]
                dy += found * sy[a] * wx[b]
        return (
            value,
            dx * slope_x if slope_x != real(0) else real(0),
            dy * slope_y if slope_y != real(0) else real(0),
        )

    return scalar(point)


def _make_volume_function(mode, padding, off):
    """Make the function (volume, x, y, z, fill) -> value, slope in x, in y, in z."""
    count, axis = TAPS[mode], _make_axis_function(mode, padding, off)

    def point(volume, x, y, z, fill):
        real, (d, h, w) = type(x), volume.shape
        ix, wx, sx, slope_x, inside_x = axis(x, w)
        iy, wy, sy, slope_y, inside_y = axis(y, h)
        iz, wz, sz, slope_z, inside_z = axis(z, d)
        value, dx, dy, dz = real(0), real(0), real(0), real(0)
        if not (inside_x and inside_y and inside_z):
            return real(fill), dx, dy, dz
        for b in range(count):
            jx = tap_index(ix + b, w, mode, padding, real(off))
            for a in range(count):
                jy = tap_index(iy + a, h, mode, padding, real(off))
                for k in range(count):
                    jz = tap_index(iz + k, d, mode, padding, real(off))
                    if jx != MISSING and jy != MISSING and jz != MISSING:
                        found = real(volume[jz, jy, jx])
                    elif padding == ZEROS:
                        found = real(fill)
                    else:
                        continue
                    weight = wz[k] * wy[a] * wx[b]
                    value += found * weight if weight != real(0) else real(0)
                    dx += found * wz[k] * wy[a] * sx[b]
                    dy += found * wz[k] * sy[a] * wx[b]
                    dz += found * sz[k] * wy[a] * wx[b]
        return (
            value,
            dx * slope_x if slope_x != real(0) else real(0),
            dy * slope_y if slope_y != real(0) else real(0),
            dz * slope_z if slope_z != real(0) else real(0),
        )

    return scalar(point)
