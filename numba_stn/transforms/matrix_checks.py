"""Checks and forms of the matrices in :mod:`.matrices`, single or in stacks."""

import numpy as np


def check_numbers(name, array):
    """Return finite float64 numbers."""
    try:
        found = np.asarray(array, np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"{name}: expected numbers, got {array!r}") from None
    if not np.isfinite(found).all():
        raise ValueError(f"{name}: expected finite numbers, got {found.tolist()}")
    return found


def check_number(name, value, least=-np.inf, most=np.inf, positive=False):
    """Return a finite number in a range."""
    found = check_numbers(name, value)
    if found.shape != () or not least <= found <= most or (positive and found <= 0):
        bounds = [*(["a positive number"] if positive else []),
                  *([f"a number of at least {least}"] if least > -np.inf else []),
                  *([f"at most {most}"] if most < np.inf else [])]  # fmt: skip
        raise ValueError(f"{name}: expected {' and '.join(bounds) or 'a number'}, got {value!r}")
    return float(found)


def check_four_points(name, array):
    """Return four points (..., 4, 2) of which no three lie on a line."""
    found = check_numbers(name, array)
    if found.shape[-2:] != (4, 2):
        raise ValueError(f"{name}: expected four points (..., 4, 2), got shape {found.shape}")
    without_one = np.stack([np.delete(found, k, axis=-2) for k in range(4)], axis=-3)
    (ax, ay), (bx, by) = np.moveaxis(without_one[..., 1:, :] - without_one[..., :1, :], (-2, -1),
                                     (0, 1))  # fmt: skip
    longest = np.ptp(found, axis=-2).max(-1)[..., None]
    if not (abs(ax * by - ay * bx) > 1e-9 * longest**2).all():
        raise ValueError(
            f"{name}: expected four points of which no three lie on a line, got {found.tolist()}"
        )
    return found


def as_3x3(name, array):
    """Return matrices as (..., 3, 3)."""
    found = check_numbers(name, array)
    if found.shape[-2:] not in ((2, 3), (3, 3)):
        raise ValueError(f"{name}: expected shape (..., 2, 3) or (..., 3, 3), got {found.shape}")
    if found.shape[-2] == 3:
        return found.copy()
    last = np.broadcast_to([0.0, 0.0, 1.0], (*found.shape[:-2], 1, 3))
    return np.concatenate([found, last], axis=-2)


def invert(name, found):
    """Return the inverses."""
    try:
        return np.linalg.inv(found)
    except np.linalg.LinAlgError:
        raise ValueError(
            f"{name}: expected a matrix with an inverse, got {found.tolist()}"
        ) from None


def drop_last_row(found):
    """Drop the last row if it is a multiple of (0, 0, 1) in all matrices."""
    scale = found[..., 2:, 2:]
    if found[..., 2, :2].any() or not scale.all():
        return found
    return found[..., :2, :] / scale


def check_affine(found):
    """Return affine matrices (..., 2, 3)."""
    found = drop_last_row(found)
    if found.shape[-2] == 3:
        raise ValueError(f"matrix: expected an affine matrix for SciPy, got {found.tolist()}")
    return found
