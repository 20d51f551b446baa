"""The oracle of spline samples: dense matrices, from the definition alone.

B-splines come from SciPy's ``BSpline``, and coefficients from the linear system that says that the
spline passes through the pixels; no filter, no recursion. Along an axis, samples are
``weights @ inverse @ continued @ line``, and gradients are products with the transposes.
"""

import numpy as np
from reference import moved_inside
from scipy.interpolate import BSpline

MARGIN = 12


def basis(order, distance):
    """The centred B-spline of this order at a distance."""
    spline = BSpline.basis_element(np.arange(order + 2) - (order + 1) / 2, extrapolate=False)
    return np.nan_to_num(spline(distance))


def basis_slope(order, distance):
    return basis(order - 1, distance + 0.5) - basis(order - 1, distance - 0.5)


def index_of(i, size, padding_mode, align_corners):
    """The coefficient that coefficient i is equal to; None outside."""
    if padding_mode == "clip":
        return min(max(i, 0), size - 1)
    if padding_mode == "none":
        return i if 0 <= i < size else None
    return round(moved_inside(float(i), size, padding_mode, align_corners)[0])


def combine(function, order, positions, size, padding_mode, align_corners):
    """Matrix (positions, size) of a function of distances."""
    matrix = np.zeros((len(positions), size))
    for row, c in enumerate(positions):
        for i in range(int(np.floor(c)) - order, int(np.floor(c)) + order + 1):
            k = index_of(i, size, padding_mode, align_corners)
            if k is not None:
                matrix[row, k] += function(order, c - i)
    return matrix


def axis(order, positions, size, padding_mode, align_corners=False):
    """For positions in pixels along an axis, matrices of samples and of slopes, by the pixels."""
    positions, margin = np.asarray(positions, float), 0
    inner = taps = padding_mode, align_corners
    continued = np.eye(size)
    if padding_mode in ("zeros", "border"):
        margin, wide = MARGIN, size + 2 * MARGIN
        inner = ("mirror", True) if padding_mode == "zeros" else ("reflection", False)
        taps = ("none" if padding_mode == "zeros" else "clip", False)
        continued = np.eye(wide)[:, margin : margin + size]
        if padding_mode == "border":
            continued[:margin, 0] = continued[margin + size :, -1] = 1
    wide = size + 2 * margin
    through = combine(basis, order, np.arange(wide), wide, *inner)
    found = []
    for function in (basis, basis_slope):
        matrix = combine(function, order, positions + margin, wide, *taps)
        found.append(matrix @ np.linalg.solve(through, continued))
    return found


def sample(image, x, y, order, padding_mode, align_corners=False, fill=0.0):
    """Samples of a plane at the positions (x, y) in pixels, and their slopes in x and y."""
    along, slope_x = axis(order, x, image.shape[1], padding_mode, align_corners)
    down, slope_y = axis(order, y, image.shape[0], padding_mode, align_corners)
    lifted = image - fill  # the fill is a constant, whose spline is constant
    pairs = ((along, down), (slope_x, down), (along, slope_y))
    samples, dx, dy = (np.einsum("pw,ph,hw->p", a, b, lifted) for a, b in pairs)
    return samples + fill, dx, dy


def sample_vjp(dsamples, x, y, shape, order, padding_mode, align_corners=False):
    """The gradient of the samples with respect to the plane."""
    along, _ = axis(order, x, shape[1], padding_mode, align_corners)
    down, _ = axis(order, y, shape[0], padding_mode, align_corners)
    return np.einsum("p,pw,ph->hw", dsamples, along, down)
