"""Samples of splines: the images are filtered, and their coefficients sampled like any images.

These functions are the same for all targets. A target's backend gives its functions, which sample
coefficients, and a module with the filter of lines and a few conversions. If the coefficients have
a margin (:mod:`.splines`), coordinates are converted to those of the larger image, and their
gradients back.
"""

from math import prod
from typing import Any, NamedTuple

from .sampler_kind import GRID, PROJECTIVE
from .splines import Continuation, continuation, coordinate_factor


class _Call(NamedTuple):
    """A call: its kind for coefficients, and how the images are continued."""

    kind: Any
    continued: Continuation
    sides: tuple  # of the images, (H, W) or (D, H, W)
    off: float

    def wide(self):
        """The sides of the coefficients."""
        return tuple(side + 2 * self.continued.margin for side in self.sides)

    def layout(self):
        """How coordinates are stored: elements between two, and the factors of each in turn.

        A theta's coordinates are its rows.
        """
        margin, off = self.continued.margin, self.off
        factors = tuple(coordinate_factor(side, margin, off) for side in self.sides[::-1])
        if self.kind.source == GRID:
            return 1, factors
        along = self.kind.dims + 1
        return along, (*factors, 1.0) if self.kind.source == PROJECTIVE else factors

    def lines(self, batch, channels, sides, axis):
        """Lines along an axis of images with these sides.

        Returns their number, how many of them are interleaved, and the samples of each; and, for
        :func:`filter_axis`, how many channels there are, and how many lines of each are next to
        each other.
        """
        others = prod(sides[:axis]) * prod(sides[axis + 1 :])
        inner = prod(sides[axis + 1 :]) * (channels if self.kind.channels_last else 1)
        every = 1 if self.kind.channels_last else others
        return (batch * channels * others, inner, sides[axis]), (channels, every)


class SplineSamplers:
    """The functions of a target's backend for images that are to be filtered first.

    ``kernels`` has the same functions for coefficients; ``lines`` filters and converts.
    """

    def __init__(self, kernels: Any, lines: Any):
        self.kernels, self.lines = kernels, lines

    # --- Samples ----------------------------------------------------------------------------------

    def sample(self, kind, images, coords, off, fill, samples):
        """Fill ``samples``."""
        call = self._call(kind, images, off)
        coefficients = self._filter(call, images, fill)
        numbers = samples
        if samples.dtype != fill.dtype:
            numbers = self.kernels.empty(samples.shape, fill.dtype, samples)
        where = self._coordinates(call, coords)
        self.kernels.sample(call.kind, coefficients, where, off, fill, numbers)
        if numbers is not samples:
            self.lines.store_samples(numbers, samples)

    def sample_jvp_coords(self, kind, images, coords, coords_dot, off, fill, samples_dot):
        """Add to ``samples_dot`` what moving the coordinates changes."""
        call = self._call(kind, images, off)
        self.kernels.sample_jvp_coords(
            call.kind, self._filter(call, images, fill), self._coordinates(call, coords),
            self._scaled(call, coords_dot), off, fill, samples_dot,
        )  # fmt: skip

    # --- Gradients --------------------------------------------------------------------------------

    def sample_vjp_images(self, kind, dsamples, coords, off, dimages):
        """Fill ``dimages``: the gradient of the coefficients, filtered by the transposed filter."""
        call = self._call(kind, dimages, off)
        coefficients, where = self._room(call, dimages), self._coordinates(call, coords)
        self.kernels.sample_vjp_images(call.kind, dsamples, where, off, coefficients)
        self._filter_vjp(call, coefficients, dimages)

    def sample_vjp_coords(self, kind, dsamples, images, coords, off, fill, dcoords):
        """Fill ``dcoords``."""
        call = self._call(kind, images, off)
        coefficients, where = self._filter(call, images, fill), self._coordinates(call, coords)
        found = dcoords if where is coords else self.kernels.empty(
            where.shape, where.dtype, dcoords
        )  # fmt: skip
        self.kernels.sample_vjp_coords(
            call.kind, dsamples, coefficients, where, off, fill, found
        )  # fmt: skip
        if found is not dcoords:
            self.lines.write_scaled(found, *call.layout(), dcoords)

    # --- Second derivatives -----------------------------------------------------------------------

    def sample_vjp_jvp_images(self, kind, dsamples, coords, coords_dot, off, dimages):
        """Fill ``dimages``, as :meth:`sample_vjp_images` does: the filter is linear."""
        call = self._call(kind, dimages, off)
        coefficients = self._room(call, dimages)
        self.kernels.sample_vjp_jvp_images(
            call.kind, dsamples, self._coordinates(call, coords), self._scaled(call, coords_dot),
            off, coefficients,
        )  # fmt: skip
        self._filter_vjp(call, coefficients, dimages)

    def sample_vjp_jvp_coords(self, kind, dsamples, images, coords, coords_dot, off, fill, dcoords):
        """Fill ``dcoords``."""
        call = self._call(kind, images, off)
        coefficients, where = self._filter(call, images, fill), self._coordinates(call, coords)
        found = dcoords if where is coords else self.kernels.empty(
            where.shape, where.dtype, dcoords
        )  # fmt: skip
        self.kernels.sample_vjp_jvp_coords(
            call.kind, dsamples, coefficients, where, self._scaled(call, coords_dot), off, fill,
            found,
        )  # fmt: skip
        if found is not dcoords:
            self.lines.write_scaled(found, *call.layout(), dcoords)

    # --- Normal equations -------------------------------------------------------------------------

    def normal_equations(self, kind, images, coords, residuals, off, fill, jtj, jtr):
        """Fill ``jtj`` and ``jtr``, by the thetas of the original images."""
        call = self._call(kind, images, off)
        coefficients, where = self._filter(call, images, fill), self._coordinates(call, coords)
        self.kernels.normal_equations(
            call.kind, coefficients, where, residuals, off, fill, jtj, jtr
        )  # fmt: skip
        if where is not coords:
            x, y = call.layout()[1]
            self.lines.write_scaled(jtj, 3, (x * x, x * y) * 3 + (y * x, y * y) * 3, jtj)
            self.lines.write_scaled(jtr, 3, (x, y), jtr)

    def filtered(self, kind, images, off, fill):
        """The kind for coefficients, their margin, and the coefficients of a batch of images."""
        call = self._call(kind, images, off)
        return call.kind, call.continued.margin, self._filter(call, images, fill)

    # --- Filter and coordinates -------------------------------------------------------------------

    def _call(self, kind, images, off):
        sides = tuple(kind.spatial(images))
        return _Call(kind.of_coefficients(), continuation(kind.padding, off), sides, off)

    def _filter(self, call, images, fill):
        """The coefficients of a batch of images."""
        kind, sides = call.kind, list(call.sides)
        batch, channels, found = len(images), kind.channels(images), images
        for axis in reversed(range(kind.dims)):
            lines, each = call.lines(batch, channels, sides, axis)
            sides[axis] = call.wide()[axis]
            shape = kind.shape(batch, channels, tuple(sides))
            filtered = self.kernels.empty(shape, fill.dtype, images)
            self.lines.filter_axis(found, lines, each, call.continued, fill, kind.mode, filtered)
            found = filtered
        return found

    def _room(self, call, images):
        """An array for the coefficients of images, not yet filled."""
        kind = call.kind
        shape = kind.shape(len(images), kind.channels(images), call.wide())
        return self.kernels.empty(shape, images.dtype, images)

    def _filter_vjp(self, call, coefficients, dimages):
        """Fill ``dimages`` from the gradient of the coefficients, which it overwrites."""
        kind, found, sides = call.kind, coefficients, list(call.wide())
        batch, channels = len(dimages), kind.channels(dimages)
        for axis, side in enumerate(call.sides):
            sides[axis] = side
            lines, _ = call.lines(batch, channels, sides, axis)
            last, filtered = axis + 1 == kind.dims, dimages
            if not last:
                shape = kind.shape(batch, channels, tuple(sides))
                filtered = self.kernels.empty(shape, dimages.dtype, dimages)
            self.lines.filter_axis_vjp(found, lines, call.continued, call.kind.mode, filtered)
            found = filtered

    def _coordinates(self, call, coords):
        """The coordinates for the coefficients."""
        if call.kind.between_pixels:
            margin = call.continued.margin
            if call.kind.source == GRID:
                return coords + margin
            return self.lines.shifted(coords, margin) if margin else coords
        return self._scaled(call, coords)

    def _scaled(self, call, coords):
        """Normalised coordinates for the coefficients, or their tangents."""
        return self.lines.scaled(coords, *call.layout()) if call.continued.margin else coords
