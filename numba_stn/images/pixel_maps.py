"""Maps between the pixels of images: matrices, and what a sampler is made for."""

import math
import struct
from typing import Any

import numpy as np

from ..kernels.math.sampler_kind import AFFINE, ALIGNED, GENERAL, IDENTITY, PROJECTIVE, Kind
from ..ops.validate import check_options, expand_fill

__all__ = ["as_affine", "check_matrix", "check_sampler"]


# --- Samplers -------------------------------------------------------------------------------------


def check_sampler(source, image, options):
    """Return the kind of sampler, and the fill of each channel.

    The corners of one image are never aligned, and its channels are last.
    """
    mode, padding_mode, fill = options
    options = check_options(mode, padding_mode, False, fill, "NHWC")
    kind = Kind(source, options.mode, options.padding, channels_last=True, between_pixels=True)
    dtype = image.dtype
    return kind, expand_fill(options.fill, (*image.shape, 1)[2], dtype).astype(dtype)


# --- Matrices -------------------------------------------------------------------------------------


# Kinds of maps: the source of coordinates, and the form of the matrix.
_IDENTITY, _ALIGNED, _AFFINE = ((AFFINE, form) for form in (IDENTITY, ALIGNED, GENERAL))
_PROJECTIVE = (PROJECTIVE, GENERAL)

_pack_matrix: Any = struct.Struct("9d").pack_into  # several times as fast as np.array


def as_affine(a, b, c, d, e, f):
    """Return the kind of an affine map, and its matrix."""
    matrix = np.empty((3, 3))
    _pack_matrix(matrix, 0, a, b, c, d, e, f, 0.0, 0.0, 1.0)
    if not b == d == 0.0:
        return _AFFINE, matrix
    return _IDENTITY if a == e == 1.0 and c == f == 0.0 else _ALIGNED, matrix


def check_matrix(matrix):
    """Return the kind of map and the matrix as (3, 3) float64."""
    try:
        found = np.asarray(matrix, np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"matrix: expected numbers (2, 3) or (3, 3), got {matrix!r}") from None
    if found.shape not in ((2, 3), (3, 3)):
        raise ValueError(f"matrix: expected shape (2, 3) or (3, 3), got {found.shape}")
    a, b, c, d, e, f, *last = numbers = found.ravel().tolist()
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"matrix: expected finite numbers, got {found.tolist()}")
    if not last:
        return as_affine(a, b, c, d, e, f)
    u, v, w = last
    if u == v == w == 0:
        raise ValueError(f"matrix: expected a last row other than zeros, got {found.tolist()}")
    if u == v == 0:
        return as_affine(a / w, b / w, c / w, d / w, e / w, f / w)
    return _PROJECTIVE, np.ascontiguousarray(found)
