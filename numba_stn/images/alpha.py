"""Colours with alpha, which are multiplied by it while they are interpolated.

The colour of a transparent pixel means nothing. Averaged as it is with a visible pixel's, it would
darken the rim of everything on transparent ground.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..kernels.math.dtypes import computed
from ..kernels.math.sampler_kind import NEAREST
from ..ops.any_dtype import stored
from ..ops.validate import MODES, look_up
from .dask_images import choose_kernels, is_dask_array

__all__ = ["premultiplied"]

# Integers that nothing is computed with.
_LABELS = (np.dtype("int64"), np.dtype("uint64"))


def premultiplied(
    function: Callable[..., Any], image: Any, *args: Any, fill: Any = 0, out: Any = None,
    mode: str = "bilinear", **options: Any,
) -> Any:  # fmt: skip
    """Call a function of images on colours multiplied by alpha, and divide its result by alpha.

    Parameters
    ----------
    function : callable
        ``function(image, *args, fill=..., out=..., mode=..., **options)`` returns an image, or a
        tuple that begins with one.
    image : (H, W, 2) or (H, W, 4) array
        The last channel is alpha: from 0 to the dtype's largest number, in floats to any number.

    Raises
    ------
    ValueError, TypeError
        If the image has another number of channels, or what the function raises.
    """
    _, image = choose_kernels(image, options.get("stream"), out)
    lazy = is_dask_array(image)
    if not (lazy or isinstance(image, np.ndarray)):
        raise TypeError("alpha: expected False for images on a GPU")
    if image.ndim != 3 or image.shape[2] not in (2, 4):
        raise ValueError(f"alpha: expected an image of 2 or 4 channels, (H, W, 2) or (H, W, 4), "
                         f"got shape {image.shape}")  # fmt: skip
    moves = look_up("mode", mode, MODES) == NEAREST and not options.get("antialias")
    if moves or image.dtype.kind not in "iuf" or image.dtype in _LABELS:
        return function(image, *args, fill=fill, out=out, mode=mode, **options)
    whole = 1.0 if image.dtype.kind == "f" else np.iinfo(image.dtype).max
    real = computed(image.dtype)
    fill = _multiply_fill(fill, image, whole)
    if lazy:
        multiplied = image.rechunk({2: -1}).map_blocks(_multiplied, real, whole, dtype=real)
    else:
        multiplied = _multiplied(image, real, whole)
    found = function(multiplied, *args, fill=fill, mode=mode, **options)
    result, *others = found if isinstance(found, tuple) else (found,)
    if lazy:
        result = result.map_blocks(_divide, whole, image.dtype, dtype=image.dtype)
    else:
        result = _divide(result, whole, image.dtype)
    if out is not None:
        out[...] = result
        result = out
    return (result, *others) if others else result


def _multiplied(pixels, real, whole):
    return _multiply(pixels.astype(real), whole)


def _multiply(pixels, whole):
    """Multiply colours by alpha, in place."""
    pixels[..., :-1] *= pixels[..., -1:] / whole
    return pixels


def _multiply_fill(fill, image, whole):
    """Multiply the colours of a fill by its alpha; what is no fill is returned as it is."""
    try:
        numbers = np.asarray(fill, float)
        return _multiply(np.broadcast_to(numbers, image.shape[2]).copy(), whole)
    except (TypeError, ValueError):
        return fill


def _divide(pixels, whole, dtype):
    """Divide colours by alpha; only then limit alpha, whose range a cubic may leave."""
    alpha = pixels[..., -1:]
    colours = np.divide(pixels[..., :-1] * whole, alpha, out=np.zeros_like(pixels[..., :-1]),
                        where=alpha > 0)  # fmt: skip
    if dtype.kind == "f":
        return np.concatenate([colours, np.maximum(alpha, 0)], -1).astype(dtype, copy=False)
    return stored(np.concatenate([colours, np.clip(alpha, 0, whole)], -1), dtype)
