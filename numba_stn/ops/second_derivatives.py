"""Second derivatives of the warps: derivatives of their gradients, backward and forward.

``f_vjp`` takes ``dsamples`` to the gradients of a loss with respect to the inputs of f. It is a
function of dsamples and of these inputs, and has derivatives itself:

- ``f_vjp_vjp`` goes backward: given the gradient of a second loss with respect to what ``f_vjp``
  returned (named ``dd...``), it returns those with respect to what ``f_vjp`` was given. Frameworks
  call it double backward; a penalty on gradients needs it.
- ``f_vjp_jvp`` goes forward: given tangents of what ``f_vjp`` was given (named ``..._dot``), it
  returns those of the gradients. With the tangent of dsamples, which the loss gives, this is a
  product of the loss's Hessian and a vector.

Both follow from one function, ``phi = sum(dsamples * f(images, coords))``. It is linear in dsamples
and in the images; its gradient with respect to the inputs of f is what ``f_vjp`` returns, so both
products with its matrix of second derivatives, which is symmetric, are the same::

    d phi / d images = S^T dsamples            S: the weights w of all samples
    d phi / d coords = dsamples . (images * dw/dx) dx/dcoords

What moves with images and dsamples is therefore computed by the kernels of the gradients. One
kernel for each gradient computes what moves with the coordinates, from the slopes and the second
derivatives of the weights.

A weight has them within a cell between pixels only. At the ends of a cell, those of the cell above
are taken, as for the slopes; jumps of slopes there are left out, as in every framework. Bilinear
weights have no second derivative along one axis, but one along two different axes.

:mod:`.vjp_vjp` and :mod:`.vjp_jvp` have the public functions.
"""

from collections.abc import Callable

import numpy as np

from ..kernels.math.sampler_kind import NEAREST
from .any_dtype import gradient_dtype
from .jvp import check_tangents, write_jvp
from .sampler import find_plan
from .tps_grid import check_regularisation, generate_grids
from .validate import check_array, check_wrt, choose_backend_for_jvp
from .warp_tps import select_images, write_dcontrol, write_spline_jvp
from .warps import repeat_for_images, sum_repeated

__all__ = ["double_backward", "gradient_tangents"]


def double_backward(check, name, second, first, options, wrt, stream, regularisation=None):
    """Check the arguments of a ``f_vjp_vjp``, and return the wanted gradients.

    ``second`` are (ddimages, ddcoords), ``first`` are (dsamples, images, coords); ``name`` is that
    of the coordinates. Splines have a ``regularisation``.
    """
    wanted = check_wrt(wrt, ("dsamples", "images", name))
    named = dict(zip(("ddimages", f"dd{name}"), second, strict=True))
    named |= dict(zip(("dsamples", "images", name), first, strict=True))
    kernels, ddimages, ddcoords, dsamples, images, coords = choose_backend_for_jvp(stream, **named)
    maps = _choose_maps(images, coords, regularisation)
    plan = find_plan(kernels, check, images, maps.coords, options, dsamples=dsamples)
    if ddimages is not None:
        given = gradient_dtype(images.dtype)
        check_array("ddimages", ddimages, images.shape, (given,))
        ddimages = kernels.converted(ddimages, plan.real)
    check_tangents(images, None, f"dd{name}", coords, ddcoords)
    dots = None, ddimages, maps.of_tangent(ddcoords)
    arrays = kernels.converted(dsamples, plan.real), images, maps.coords
    ddsamples = None
    if wanted[0]:
        ddsamples = kernels.empty(plan.shape, plan.real, images)
        maps.write_jvp(plan, arrays, dots, ddsamples)
        ddsamples = kernels.returned(kernels.converted(ddsamples, dsamples.dtype))
    return ddsamples, *maps.tangents(plan, arrays, dots, wanted[1:], dsamples.dtype)


def gradient_tangents(check, name, first, dots, options, wrt, stream, regularisation=None):
    """Check the arguments of a ``f_vjp_jvp``, and return the wanted tangents of the gradients.

    ``dots`` are the tangents of ``first``; see :func:`double_backward`.
    """
    wanted, names = check_wrt(wrt, ("images", name)), ("dsamples", "images", name)
    named = dict(zip(names, first, strict=True))
    named |= dict(zip((f"{each}_dot" for each in names), dots, strict=True))
    kernels, dsamples, images, coords, *dots = choose_backend_for_jvp(stream, **named)
    dsamples_dot, images_dot, coords_dot = dots
    maps = _choose_maps(images, coords, regularisation)
    plan = find_plan(kernels, check, images, maps.coords, options, dsamples=dsamples)
    check_tangents(images, images_dot, f"{name}_dot", coords, coords_dot)
    if dsamples_dot is not None:
        check_array("dsamples_dot", dsamples_dot, dsamples.shape, (dsamples.dtype,))
        dsamples_dot = kernels.converted(dsamples_dot, plan.real)
    dots = dsamples_dot, images_dot, maps.of_tangent(coords_dot)
    arrays = kernels.converted(dsamples, plan.real), images, maps.coords
    return maps.tangents(plan, arrays, dots, wanted, dsamples.dtype)


def _choose_maps(images, coords, regularisation):
    if regularisation is None:
        return _Maps(images, coords)
    return _Splines(coords, check_regularisation(regularisation))


# --- What differs between the maps ----------------------------------------------------------------

# ``arrays`` are dsamples, images and coordinates, and ``dots`` their tangents; None is zero.


class _Maps:
    """Grids, or thetas; a single theta may be the map of all images."""

    def __init__(self, images, coords):
        self.images, self.coords = images, repeat_for_images(coords, images)
        self.is_repeated = self.coords is not coords

    def of_tangent(self, coords_dot):
        """Return a tangent for each of the coordinates."""
        if coords_dot is None or not self.is_repeated:
            return coords_dot
        return repeat_for_images(coords_dot, self.images)

    def write_jvp(self, plan, arrays, dots, samples_dot):
        """Write the change of the samples."""
        write_jvp(plan, arrays[1], arrays[2], dots[1], dots[2], samples_dot)

    def tangents(self, plan, arrays, dots, wanted, given):
        """Return the wanted tangents of the gradients; those of images have the dtype ``given``."""
        kernels, (_, images, coords) = plan.kernels, arrays
        dimages = dcoords = None
        if wanted[0]:
            dimages = kernels.empty(images.shape, plan.real, images)
            _write_images_tangent(plan, arrays, dots, dimages)
            dimages = kernels.returned(kernels.converted(dimages, given))
        if wanted[1]:
            dcoords = kernels.empty(coords.shape, coords.dtype, coords)
            _write_coords_tangent(plan, arrays, dots, dcoords)
            dcoords = kernels.returned(dcoords)
        return dimages, sum_repeated(dcoords, self.is_repeated)


class _Splines:
    """Control points: the same with the grids of a few splines at a time."""

    def __init__(self, control, regularisation):
        self.coords, self.regularisation = control, regularisation

    def of_tangent(self, control_dot):
        """Return the tangent."""
        return control_dot

    def write_jvp(self, plan, arrays, dots, samples_dot):
        """Write the change of the samples."""
        write_spline_jvp(plan, arrays[1:], dots[1:], self.regularisation, samples_dot)

    def tangents(self, plan, arrays, dots, wanted, given):
        """Return the wanted tangents of the gradients."""
        kernels, (_, images, control) = plan.kernels, arrays
        dimages = kernels.empty(images.shape, plan.real, images) if wanted[0] else None
        dcontrol = kernels.empty(control.shape, control.dtype, control) if wanted[1] else None
        if dimages is not None and not plan.batch:
            kernels.clear(dimages)
        for group, own, own_dots in self._groups(plan, arrays, dots):
            if dimages is not None:
                part = select_images(kernels, dimages, group)
                _add_images_tangent(plan, own, own_dots, part, len(images) == 1 and group.start > 0)
            if dcontrol is not None:
                dgrid = kernels.empty(own[2].shape, own[2].dtype, own[2])
                _write_coords_tangent(plan, own, own_dots, dgrid)
                part = kernels.batch_slice(dcontrol, group)
                write_dcontrol(plan, dgrid, self.regularisation, part)
        if dimages is not None:
            dimages = kernels.returned(kernels.converted(dimages, given))
        return dimages, None if dcontrol is None else kernels.returned(dcontrol)

    def _groups(self, plan, arrays, dots):
        """Generate groups of splines, with their arrays and the tangents of these."""
        kernels, size, off = plan.kernels, plan.size, plan.off
        (dsamples, images, control), (dsamples_dot, images_dot, control_dot) = arrays, dots
        grids_dot = None
        if control_dot is not None:
            grids_dot = generate_grids(kernels, control_dot, size, off, self.regularisation, 0.0)

        def part(array, choose, group):
            return None if array is None else choose(array, group)

        def of_images(array, group):
            return select_images(kernels, array, group)

        for group, grid in generate_grids(kernels, control, size, off, self.regularisation):
            grid_dot = None if grids_dot is None else next(grids_dot)[1]
            own = kernels.batch_slice(dsamples, group), of_images(images, group), grid
            own_dsamples = part(dsamples_dot, kernels.batch_slice, group)
            yield group, own, (own_dsamples, part(images_dot, of_images, group), grid_dot)


# --- The tangents, as sums of what the kernels compute --------------------------------------------


def _write_images_tangent(plan, arrays, dots, dimages):
    """Write the tangent of the images' gradient."""
    (dsamples, _, coords), (dsamples_dot, _, coords_dot) = arrays, dots
    kernels, kind, off = plan.kernels, plan.kind, plan.off
    terms: list[Callable] = []
    if dsamples.size and dsamples_dot is not None:
        terms.append(lambda out: kernels.sample_vjp_images(kind, dsamples_dot, coords, off, out))
    if dsamples.size and coords_dot is not None and kind.mode != NEAREST:
        terms.append(
            lambda out: kernels.sample_vjp_jvp_images(kind, dsamples, coords, coords_dot, off, out)
        )
    _write_sum(kernels, terms, dimages)


def _add_images_tangent(plan, arrays, dots, dimages, accumulate):
    """Write the tangent of the images' gradient, or add it to what is there."""
    kernels = plan.kernels
    found = kernels.empty(dimages.shape, dimages.dtype, dimages) if accumulate else dimages
    _write_images_tangent(plan, arrays, dots, found)
    if accumulate:
        kernels.add(dimages, found)


def _write_coords_tangent(plan, arrays, dots, dcoords):
    """Write the tangent of the coordinates' gradient."""
    (dsamples, images, coords), (dsamples_dot, images_dot, coords_dot) = arrays, dots
    kernels, kind, off, fill = plan.kernels, plan.kind, plan.off, plan.fill
    terms: list[Callable] = []
    moves = dsamples.size and kind.mode != NEAREST  # small steps do not change nearest pixels
    if moves and dsamples_dot is not None:
        terms.append(
            lambda out: kernels.sample_vjp_coords(
                kind, dsamples_dot, images, coords, off, fill, out
            )
        )
    if moves and images_dot is not None:
        none = np.zeros(len(fill), plan.real)
        terms.append(
            lambda out: kernels.sample_vjp_coords(
                kind, dsamples, images_dot, coords, off, none, out
            )
        )
    if moves and coords_dot is not None:
        terms.append(
            lambda out: kernels.sample_vjp_jvp_coords(
                kind, dsamples, images, coords, coords_dot, off, fill, out
            )
        )
    _write_sum(kernels, terms, dcoords)


def _write_sum(kernels, terms, out):
    """Write the sum of terms, functions that each fill an array."""
    if not terms:
        kernels.clear(out)
    for number, write in enumerate(terms):
        target = kernels.empty(out.shape, out.dtype, out) if number else out
        write(target)
        if number:
            kernels.add(out, target)
