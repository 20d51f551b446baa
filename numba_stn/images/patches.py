"""Patches of a large output, each computed from the part of the image that it reads.

A job says how a whole image (H, W) or (H, W, C) becomes an output. ``parts(patch)`` are the parts
of rows and columns that a patch (top, bottom, left, right) of the output reads, or None if it reads
nothing; ``compute(patch, parts, crop)`` computes it from these pixels. Jobs can be pickled.

A patch has the bits that the whole output has there (:mod:`numba_stn.kernels.cpu.patches`), except
in the spline modes: the coefficients of a crop are summed from fewer pixels, and differ by their
rounding.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..kernels import backend
from ..kernels.cpu.filters import Taps, divide
from ..kernels.cpu.patches import Crop, Frame
from ..kernels.cpu.simd.vectors import LANES
from ..kernels.math.dtypes import computed
from ..kernels.math.sampler_kind import GENERAL, IDENTITY
from ..ops.any_dtype import AnyDtype, any_dtype_kernels, check_labels
from .antialias import (
    check_numbers,
    finer_matrix,
    finer_rows,
    parts_of_pixels,
    real_parts,
    reduce_image,
    reduction,
    write_means,
    write_resized,
)
from .crops import Part, crop_of, positions_of, whole_part
from .filters import row_taps
from .pixel_maps import check_matrix, check_sampler

__all__ = ["Filtered", "Like", "Means", "Patch", "Warp", "job_of"]

Patch = tuple[int, int, int, int]
Parts = tuple[Part, Part] | None


def _two(shape) -> tuple[int, int]:
    """The first two sides."""
    height, width = shape[:2]
    return height, width


# --- Samples --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Warp:
    """Samples at the positions of a map: what :func:`numba_stn.warp_image` computes."""

    kind: Any
    form: int
    matrix: np.ndarray
    fill: np.ndarray
    sides: tuple[int, int]
    sizes: tuple[int, int]

    @classmethod
    def of(cls, image: Any, found: Any, options: Any, sizes: tuple[int, int]) -> "Warp":
        """The job for an image's shape and dtype; arguments as :func:`.warp_image.warp_by`'s."""
        (source, form), matrix = found
        kind, fill = check_sampler(source, image, options)
        if image.dtype not in AnyDtype.NATIVE:
            check_labels("image", image.dtype, kind.mode)
        return cls(kind, form, matrix, fill, _two(image.shape), _two(sizes))

    def parts(self, patch: Patch) -> Parts:
        """The rows and columns that are read."""
        if self._copies():
            top, bottom, left, right = patch
            return Part(((top, bottom, 1),), Crop(top)), Part(((left, right, 1),), Crop(left))
        mode, padding = self.kind.of_coefficients().mode, self.kind.padding
        top, bottom, *_ = patch
        spans = positions_of(self.matrix, (top, bottom, *self._columns(patch)), mode, padding,
                             self.sides)  # fmt: skip
        if spans is None:
            return None
        folded = self.form != GENERAL and not self.kind.needs_filter()
        y, x = (
            crop_of(span, side, mode, padding, folded)
            for span, side in zip(spans, self.sides, strict=True)
        )
        return y, x

    def compute(self, patch: Patch, parts: Parts, crop: Any) -> np.ndarray:
        """The pixels of a patch."""
        top, bottom, left, right = patch
        if parts is None:
            shape = (bottom - top, right - left, *crop.shape[2:])
            fills = self.fill if crop.ndim == 3 else self.fill[0]
            return np.full(shape, fills, crop.dtype)
        if self._copies():
            return crop
        start, stop = self._columns(patch)
        frame = Frame(self.sides, self.sizes, (top, start), parts[0].crop, parts[1].crop)
        out = np.empty((bottom - top, stop - start, *crop.shape[2:]), crop.dtype)
        kernels = backend(False) if crop.dtype in AnyDtype.NATIVE else any_dtype_kernels()
        if out.size:
            kernels.warp_patch(self.kind, self.form, self.fill, crop, self.matrix, frame, out)
        return out[:, left - start : right - start]

    def _copies(self):
        return self.form == IDENTITY and self.sides == self.sizes

    def _columns(self, patch):
        """The first column and that after the last: whole blocks, where kernels divide rows."""
        _, _, left, right = patch
        if self.form == GENERAL:
            return left, right
        start, stop = left - left % LANES, min(-(-right // LANES) * LANES, self.sizes[1])
        return max(0, min(start, stop - LANES) // LANES * LANES), stop


# --- Means ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Means:
    """Means over the areas of pixels, by any map: :func:`.antialias.warp_means`."""

    matrix: np.ndarray
    options: tuple[Any, Any, Any]
    sides: tuple[int, int]
    sizes: tuple[int, int]
    channels: tuple[int, ...]

    @classmethod
    def of(cls, image: Any, matrix: np.ndarray, options: Any, sizes: tuple[int, int]) -> "Means":
        """The job for an image's shape and dtype."""
        check_numbers(image.dtype)
        return cls(matrix, options, _two(image.shape), _two(sizes), tuple(image.shape[2:]))

    def parts(self, patch: Patch) -> Parts:
        """The rows and columns that are read."""
        factor, matrix, sides = self._reduced()
        across, down = parts_of_pixels(matrix, self.sizes)
        top, bottom, left, right = patch
        finer = finer_matrix(0, across, down)
        job = self._samples(matrix @ finer, sides, self.sizes[0] * down, across, self.options)
        found = job.parts((top * down, bottom * down, left * across, right * across))
        if found is None or factor == 1:
            return found
        y, x = (_enlarged(part, factor, side) for part, side in zip(found, self.sides, strict=True))
        return y, x

    def compute(self, patch: Patch, parts: Parts, crop: Any) -> np.ndarray:
        """The pixels of a patch."""
        top, bottom, left, right = patch
        result = np.empty((bottom - top, right - left, *crop.shape[2:]), crop.dtype)
        for target, numbers, fill in real_parts(crop, result, self.options[2]):
            self._write(target, patch, parts, numbers, (*self.options[:2], fill))
        return result

    def _write(self, target, patch, parts, crop, options):
        factor, matrix, sides = self._reduced()
        if factor > 1 and parts is not None:
            crop = reduce_image(crop, factor)
            parts = tuple(_shrunk(part, factor) for part in parts)
        across, down = parts_of_pixels(matrix, self.sizes)
        rows = finer_rows(self.sizes, across * down * math.prod(self.channels))
        top, bottom, left, right = patch
        for start in range(top // rows * rows, bottom, rows):  # as the whole is divided
            stop = min(start + rows, self.sizes[0])
            job = self._samples(matrix @ finer_matrix(start, across, down), sides,
                                (stop - start) * down, across, options)  # fmt: skip
            low, high = max(start, top), min(stop, bottom)
            finer = ((low - start) * down, (high - start) * down, left * across, right * across)
            samples = job.compute(finer, parts, crop)
            write_means(samples, (down, across), target[low - top : high - top])

    def _samples(self, matrix, sides, rows, across, options):
        """The job of the samples that means are of."""
        like = Like((*sides, *self.channels), np.dtype(np.float32))
        return Warp.of(like, check_matrix(matrix), options, (rows, self.sizes[1] * across))

    def _reduced(self):
        """By how much the image is reduced first, the map from then on, and the image's sides."""
        factor, matrix = reduction(self.matrix, self.sizes)
        height, width = self.sides
        return factor, matrix, (-(-height // factor), -(-width // factor))


@dataclass(frozen=True)
class Like:
    """A shape and a dtype, in the place of an image."""

    shape: tuple[int, ...]
    dtype: np.dtype


def _enlarged(part, factor, side):
    """The pixels of which those of a reduced image are means."""
    (start, stop, step), *others = part.slices
    if others or step < 0:
        return whole_part(side)
    return _slice_part(start * factor, min(stop * factor, side))


def _shrunk(part, factor):
    (start, stop, _), *_ = part.slices
    return _slice_part(start // factor, -(-stop // factor))


def _slice_part(start, stop):
    """The pixels ``start`` to ``stop`` - 1."""
    return Part(((start, stop, 1),), Crop(start))


def job_of(
    image: Any, matrix: Any, sizes: tuple[int, int], mode: str = "bilinear",
    padding_mode: str = "zeros", fill: Any = 0, antialias: bool = False,
) -> Warp | Means:  # fmt: skip
    """The job of :func:`numba_stn.warp_image` with these arguments; ``image`` may be a Like."""
    found, options = check_matrix(matrix), (mode, padding_mode, fill)
    if antialias:
        return Means.of(image, found[1], options, sizes)
    return Warp.of(image, found, options, sizes)


# --- Filters --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Filtered:
    """A box resized by a separable filter: :func:`.antialias.resize_filtered`."""

    box: tuple[float, ...]
    name: str
    sides: tuple[int, int]
    sizes: tuple[int, int]

    @classmethod
    def of(cls, image: Any, box: Any, name: str, sizes: tuple[int, int]) -> "Filtered":
        """The job for an image's shape and dtype."""
        check_numbers(image.dtype)
        return cls(tuple(box), name, _two(image.shape), _two(sizes))

    def parts(self, patch: Patch) -> Parts:
        """The rows and columns that are read."""
        top, bottom, left, right = patch
        down, across = self._taps("float64")
        return _part_of(down, top, bottom), _part_of(across, left, right)

    def compute(self, patch: Patch, parts: Parts, crop: Any) -> np.ndarray:
        """The pixels of a patch."""
        top, bottom, left, right = patch
        result = np.empty((bottom - top, right - left, *crop.shape[2:]), crop.dtype)
        if parts is None or not result.size:
            return result
        for target, numbers, _ in real_parts(crop, result, 0, AnyDtype.NATIVE):
            down, across = self._taps(str(computed(numbers.dtype)))
            down = _moved(down, top, bottom, parts[0].crop.start)
            across = _moved(across, left, right, parts[1].crop.start)
            bounds = divide(across, math.prod(crop.shape[2:]))
            write_resized(target, numbers, down, (across, bounds))
        return result

    def _taps(self, real):
        """Those of all rows, and of all columns."""
        (height, width), (rows, columns), (x0, y0, x1, y1) = self.sides, self.sizes, self.box
        return (row_taps(self.name, (y0, y1 - y0), height, rows, real),
                row_taps(self.name, (x0, x1 - x0), width, columns, real))  # fmt: skip


def _part_of(taps, first, last):
    starts, counts = taps.starts[first:last], taps.counts[first:last]
    low = int(starts.min())
    return Part(((low, int((starts + counts).max()), 1),), Crop(low))


def _moved(taps, first, last, start):
    """The taps of some rows, counted from a crop's first row."""
    return Taps(taps.starts[first:last] - start, taps.counts[first:last], taps.weights[first:last])
