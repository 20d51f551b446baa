"""Resize and crop NumPy volumes (D, H, W) or (N, C, D, H, W).

As for images, a voxel is a cube around its centre, which is at integers (x, y, z), and a box has
integers at the voxels' faces, as in a slice: the whole volume is the box (0, 0, 0, W, H, D).
"""

from typing import Any

import numpy as np

from ..kernels.math.sampler_kind import NEAREST
from ..ops.any_dtype import check_dtype
from ..ops.docstrings import documented
from ..ops.validate import (
    BATCH_DTYPES,
    MAX_SIDE,
    check_finite,
    check_not_empty,
    check_options,
    expand_fill,
)
from ..ops.warps import warp_affine
from .antialias import filter_of, real_parts, write_filtered
from .canvas import tie_shift, with_matrix

__all__ = ["crop_and_resize_volume", "resize_volume"]


@documented
def resize_volume(
    volume: Any,
    shape: tuple[int, int, int],
    *,
    mode: str = "bilinear",
    padding_mode: str = "border",
    fill: Any = 0,
    antialias: bool | str = False,
    return_matrix: bool = False,
) -> Any:
    """Resize a volume to a shape; its outer faces remain its outer faces.

    ``volume (D, H, W) -> out (D_out, H_out, W_out)``

    In bilinear mode, each output voxel is the weighted mean of eight input voxels, however much
    the volume shrinks; with ``antialias`` it is the mean over its own extent.

    Parameters
    ----------
    volume : (D, H, W) or (N, C, D, H, W) array of numbers or bool
        On the CPU. dtypes are those of :func:`numba_stn.resize`.
    shape : (D_out, H_out, W_out)
        The output's sides.
    {image_mode}
    padding_mode : str
        Values outside the volume, as in :func:`numba_stn.resize`.
    fill : number, or C of them
        Value outside the volume under zeros and fill.
    {image_filter, volume_matrix}

    Returns
    -------
    out : (D_out, H_out, W_out) or (N, C, D_out, H_out, W_out) array of the volume's dtype

    Raises
    ------
    {errors}

    See Also
    --------
    crop_and_resize_volume : The same for a part of the volume.
    numba_stn.warp_affine : Warps by any affine map, with gradients.

    Notes
    -----
    The result is that of ``torch.nn.functional.interpolate(mode="trilinear", align_corners=False)``
    and of ``scipy.ndimage.zoom(volume, zoom, order=1, mode="nearest", grid_mode=True)``. With
    ``antialias=True`` it is that of Pillow's filters along each axis in turn.

    Examples
    --------
    >>> import numpy as np, numba_stn as stn
    >>> stn.resize_volume(np.float32([[[0, 4]]]), (1, 1, 4))
    array([[[0., 1., 3., 4.]]], dtype=float32)
    >>> volume = np.arange(8, dtype=np.uint8).reshape(2, 2, 2)
    >>> stn.resize_volume(volume, (1, 1, 2), antialias="area")
    array([[[3, 4]]], dtype=uint8)
    """
    volume = _check_volume(volume, mode)
    box = np.array([0.0, 0.0, 0.0, *volume.shape[:-4:-1]])
    return _crop(volume, box, shape, (mode, padding_mode, fill), antialias, return_matrix)


@documented
def crop_and_resize_volume(
    volume: Any,
    boxes: Any,
    shape: tuple[int, int, int],
    *,
    mode: str = "bilinear",
    padding_mode: str = "border",
    fill: Any = 0,
    antialias: bool | str = False,
    return_matrix: bool = False,
) -> Any:
    """Crop one or several boxes from a volume and resize each to a shape.

    ``volume (D, H, W), boxes (K, 6) -> out (K, D_out, H_out, W_out)``

    A box (x0, y0, z0, x1, y1, z1) is that of a slice, ``volume[z0:z1, y0:y1, x0:x1]``, but may have
    fractions, and may reach outside the volume. If ``shape`` is the box's own and its numbers are
    whole, the result is the slice. Otherwise it is that of :func:`resize_volume` on the box, except
    that samples near its faces also use the voxels outside it, where the volume has any.

    Parameters
    ----------
    volume : (D, H, W) or (N, C, D, H, W) array of numbers or bool
        On the CPU. dtypes are those of :func:`numba_stn.resize`.
    boxes : (6,) or (K, 6) array
        One box (x0, y0, z0, x1, y1, z1), or K of them; x0 < x1, y0 < y1 and z0 < z1.
    shape : (D_out, H_out, W_out)
        The output's sides, for each box.
    mode, padding_mode, fill, antialias
        As in :func:`resize_volume`.
    {volume_matrix}

    Returns
    -------
    out : array of the volume's dtype
        (D_out, H_out, W_out) or (N, C, D_out, H_out, W_out); with K boxes, K of them.

    Raises
    ------
    {errors}

    See Also
    --------
    resize_volume : Resizes the whole volume.

    Examples
    --------
    >>> import numpy as np, numba_stn as stn
    >>> volume = np.arange(12.0).reshape(1, 3, 4)
    >>> stn.crop_and_resize_volume(volume, (1, 0, 0, 3, 2, 1), (1, 2, 2))
    array([[[1., 2.],
            [5., 6.]]])
    """
    volume, boxes = _check_volume(volume, mode), _check_boxes(boxes)
    return _crop(volume, boxes, shape, (mode, padding_mode, fill), antialias, return_matrix)


def _crop(volume, boxes, shape, options, antialias, return_matrix):
    """Resize boxes (6,) or (K, 6) by the sampler or by a filter."""
    mode, padding_mode, fill = options
    shape = _check_shape(shape)
    batch = volume if volume.ndim == 5 else volume[None, None]
    each = np.atleast_2d(boxes)
    found = check_options(mode, padding_mode, False, fill)
    expand_fill(found.fill, batch.shape[1], volume.dtype)
    name = None if antialias is False else filter_of(antialias, mode, padding_mode)
    if name is None:
        nearest = found.mode == NEAREST
        crops = _warped(batch, _thetas(each, batch.shape[2:], shape, nearest), shape, options)
    else:
        crops = _filtered(batch, each, shape, name)
    crops = crops.reshape(*boxes.shape[:-1], *volume.shape[:-3], *shape)
    matrices = _matrices(each, shape).reshape(*boxes.shape[:-1], 4, 4)
    return with_matrix(crops, matrices) if return_matrix else crops


# --- By the sampler -------------------------------------------------------------------------------


def _warped(volumes, thetas, shape, options):
    """Sample K boxes of volumes (N, C, D, H, W): (K, N, C, *shape)."""
    chosen = dict(zip(("mode", "padding_mode", "fill"), options, strict=True))
    if len(volumes) == 1:  # once for all boxes
        return warp_affine(volumes, thetas, shape, **chosen)[:, None]
    crops = np.empty((len(thetas), *volumes.shape[:2], *shape), volumes.dtype)
    for theta, crop in zip(thetas, crops, strict=True):
        each = np.repeat(theta[None], len(volumes), axis=0)
        warp_affine(volumes, each, shape, **chosen, out=crop)
    return crops


def _thetas(boxes, sides, shape, nearest):
    """The maps (K, 3, 4) that stretch boxes over an output; the whole volume's is the identity."""
    low, high = boxes[:, :3], boxes[:, 3:]
    lengths = np.array(sides[::-1], float)
    thetas = np.zeros((len(boxes), 3, 4))
    thetas[:, range(3), range(3)] = (high - low) / lengths
    thetas[:, :, 3] = (low + high) / lengths - 1
    for theta, (start, end) in zip(thetas, zip(low, high, strict=True), strict=True):
        for axis in range(3 if nearest else 0):
            ties = tie_shift(start[axis], end[axis] - start[axis], shape[2 - axis])
            theta[axis, 3] += 2 * ties / lengths[axis]
    return thetas


def _matrices(boxes, shape):
    """The matrices (K, 4, 4) from output to input voxels."""
    steps = (boxes[:, 3:] - boxes[:, :3]) / shape[::-1]
    matrices = np.tile(np.eye(4), (len(boxes), 1, 1))
    matrices[:, range(3), range(3)] = steps
    matrices[:, :3, 3] = boxes[:, :3] + (steps - 1) / 2
    return matrices


# --- By filters -----------------------------------------------------------------------------------


def _filtered(volumes, boxes, shape, name):
    """Resize K boxes of volumes (N, C, D, H, W) along each axis: (K, N, C, *shape)."""
    crops = np.empty((len(boxes), *volumes.shape[:2], *shape), volumes.dtype)
    if not crops.size:
        return crops
    for target, numbers, _ in real_parts(volumes, crops, 0):
        for n in np.ndindex(volumes.shape[:2]):
            for k, box in enumerate(boxes.tolist()):
                _write_box(target[(k, *n)], numbers[n], box, name)
    return crops


def _write_box(target, volume, box, name):
    """Resize a box of a volume of floats: first along z, for all lines at once, then the slices."""
    (depth, height, width), (x0, y0, z0, x1, y1, z1) = volume.shape, box
    slices = np.empty((len(target), 1, height * width), volume.dtype)
    lines = np.ascontiguousarray(volume).reshape(depth, 1, height * width)
    write_filtered(slices, lines, (0.0, z0, 1.0, z1), name)
    for out, each in zip(target, slices.reshape(-1, height, width), strict=True):
        write_filtered(out, each, (x0, y0, x1, y1), name)


# --- Checks ---------------------------------------------------------------------------------------


def _check_volume(volume, mode):
    """Return a volume on the CPU."""
    if not isinstance(volume, np.ndarray):
        raise TypeError(f"volume: expected a NumPy array, got {type(volume).__name__}")
    if volume.ndim not in (3, 5):
        raise ValueError(f"volume: expected shape (D, H, W) or (N, C, D, H, W), got {volume.shape}")
    check_dtype("volume", volume, BATCH_DTYPES, check_options(mode, "border", False, 0).mode)
    check_not_empty("volume", volume.shape[-3:])
    return volume


def _check_shape(shape):
    """Return the output's sides."""
    try:
        sides = tuple(side.__index__() for side in shape)
    except (AttributeError, TypeError):
        sides = ()
    if len(sides) != 3 or not 0 < min(sides) <= max(sides) <= MAX_SIDE:
        raise ValueError(
            f"shape: expected three positive integers (D_out, H_out, W_out), got {shape!r}"
        )
    return sides


def _check_boxes(boxes):
    """Return boxes (6,) or (K, 6) that are not empty."""
    expected = "finite numbers (x0, y0, z0, x1, y1, z1), or (K, 6) of them"
    found = check_finite("boxes", boxes, expected, lambda s: len(s) in (1, 2) and s[-1] == 6)
    empty = (found[..., :3] >= found[..., 3:]).any(-1)
    if empty.any():
        raise ValueError(f"boxes: expected x0 < x1, y0 < y1 and z0 < z1, got "
                         f"{found[empty][0].tolist()}")  # fmt: skip
    return found
