"""Images of dtypes that no kernel takes: converted to a dtype that one takes, and back.

In nearest mode, integers and bools are moved as they are, bit for bit, so labels of any size are
exact. In the other modes bool, int8, int16 and float16 are computed in float32, int32 and uint32 in
float64, and the results are rounded half to even and saturated: an interpolated bool is True where
more than half of it is. int64 and uint64 are labels only, since no float holds all of them. The
real and the imaginary parts of complex numbers are two channels.

:class:`AnyDtype` has the functions of a backend that take images; a plan for images of such a dtype
has it in the place of the backend. Images of other dtypes never meet it.
"""

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from ..kernels import backend, on_gpu
from ..kernels.math.dtypes import computed
from ..kernels.math.sampler_kind import NEAREST

__all__ = ["AnyDtype", "check_dtype", "gradient_dtype", "number_range", "stored"]

_CONVERTED = frozenset(
    map(np.dtype, ("bool", "int8", "int16", "float16", "int32", "uint32", "int64", "uint64",
                   "complex64", "complex128"))
)  # fmt: skip


def gradient_dtype(dtype: np.dtype) -> np.dtype:
    """Return the dtype of samples' gradients: that of float images, else the one that computes."""
    return dtype if dtype.kind in "fc" else computed(dtype)


def check_dtype(name: str, image: Any, native: Any, mode: int) -> bool:
    """Return whether an array has one of the kernels' own dtypes, or raise if it has no other."""
    dtype = image.dtype
    if dtype in native:
        return True
    names = ", ".join(map(str, native))
    if dtype not in _CONVERTED:
        hint = f"; {name}.astype(np.float64) converts it" if dtype.kind == "f" else ""
        raise TypeError(f"{name}: expected one of {names}, or bool, other integers or complex "
                        f"numbers, got {dtype}{hint}")  # fmt: skip
    if on_gpu(image):
        raise TypeError(f"{name}: expected one of {names} on a GPU, got {dtype}; "
                        f"{name}.astype({_wider(dtype)!r}) converts it")  # fmt: skip
    check_labels(name, dtype, mode)
    return False


def check_labels(name: str, dtype: np.dtype, mode: int, only: str = 'mode="nearest"') -> None:
    """Raise if integers that no float holds are to be computed with."""
    if mode != NEAREST and dtype.kind in "iu" and dtype.itemsize == 8:
        raise TypeError(f"{name}: expected integers of at most 32 bits, or {only} for labels, got "
                        f"{dtype}; {name}.astype(np.float64) converts it")  # fmt: skip


def _wider(dtype):
    """The name of a dtype of the kernels that holds these numbers."""
    return str(computed(dtype)) if dtype.kind != "c" else "float32"


# --- Rounding -------------------------------------------------------------------------------------


def number_range(dtype: np.dtype) -> tuple[int, int]:
    """Return the smallest and the largest number of an integer dtype, or of bool."""
    return (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)


def stored(numbers: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Convert floats to a dtype; integers are rounded half to even and saturated."""
    with np.errstate(over="ignore"):  # of float16
        if dtype.kind in "biu":
            numbers = np.clip(np.rint(numbers), *number_range(dtype))
        return numbers.astype(dtype, copy=False)


# --- Forms: how a dtype is converted --------------------------------------------------------------

# ``axis`` is that of the channels, or None for an image (H, W) without any.


class _Moved:
    """Numbers as they are, in parts of at most two bytes, which are channels of their own.

    Numbers of four and eight bytes would fit into floats, whose bits arithmetic does not keep: it
    changes a signalling NaN.
    """

    def __init__(self, dtype):
        self.parts = max(1, dtype.itemsize // 2)
        self.dtype = np.dtype(np.uint8 if dtype.itemsize == 1 else np.uint16)

    def shape(self, shape, axis):
        return _with_channels(shape, axis, self.parts) if self.parts > 1 else shape

    def numbers(self, array, axis):
        if not self._is_apart(axis):
            return array.view(self.dtype).reshape(self.shape(array.shape, axis))
        parts = array.view(self.dtype).reshape(*array.shape, self.parts)
        return np.moveaxis(parts, -1, 2).reshape(self.shape(array.shape, axis))

    def target(self, out, axis):
        if self._is_apart(axis):
            return np.empty(self.shape(out.shape, axis), self.dtype)
        return self.numbers(out, axis)  # the same memory

    def store(self, numbers, out, axis):
        if self._is_apart(axis):
            batch, channels, *sides = out.shape
            parts = np.moveaxis(numbers.reshape(batch, channels, self.parts, *sides), 2, -1)
            out[...] = np.ascontiguousarray(parts).view(out.dtype)[..., 0]

    def _is_apart(self, axis):
        """Whether the parts of a number are not neighbours in memory."""
        return axis == 1 and self.parts > 1


class _Rounded:
    """Numbers in the float that computes them."""

    def __init__(self, dtype):
        self.dtype = computed(dtype)

    def shape(self, shape, axis):
        return shape

    def numbers(self, array, axis):
        return array.astype(self.dtype)

    def target(self, out, axis):
        return np.empty(out.shape, self.dtype)

    def store(self, numbers, out, axis):
        out[...] = stored(numbers, out.dtype)


class _Pairs:
    """Complex numbers: first the channels of real parts, then those of imaginary parts."""

    def __init__(self, dtype):
        self.dtype = np.dtype(dtype.char.lower())

    def shape(self, shape, axis):
        return _with_channels(shape, axis, 2)

    def numbers(self, array, axis):
        parts = array.real, array.imag
        return np.stack(parts, -1) if axis is None else np.concatenate(parts, axis)

    def target(self, out, axis):
        return np.empty(self.shape(out.shape, axis), self.dtype)

    def store(self, numbers, out, axis):
        if axis is None:
            out.real, out.imag = numbers[..., 0], numbers[..., 1]
        else:
            out.real, out.imag = np.split(numbers, 2, axis)


def _with_channels(shape, axis, count):
    """Return a shape with ``count`` channels for each one."""
    if axis is None:
        return (*shape, count)
    sides = list(shape)
    sides[axis] *= count
    return tuple(sides)


@functools.cache
def _form_of(dtype, moved):
    """Return the form of a dtype; ``moved`` says that nothing is computed with its numbers."""
    if dtype.kind == "c":
        return _Pairs(dtype)
    return _Moved(dtype) if moved and dtype.kind in "biu" else _Rounded(dtype)


# --- The functions of a backend -------------------------------------------------------------------


class AnyDtype:
    """The CPU's kernels, for images of dtypes that they do not take."""

    # The dtypes of images that all kernels take.
    NATIVE = frozenset(map(np.dtype, ("uint8", "uint16", "float32", "float64")))

    def __init__(self, kernels: ModuleType):
        self._kernels = kernels

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kernels, name)

    def prepare_sample(
        self, kind: Any, images_shape: Any, dtype: np.dtype, off: float, fill: np.ndarray,
        shape: Any,
    ) -> Callable[[Any, Any, Any], None]:  # fmt: skip
        """Prepare to sample batches."""
        form, axis = _form_of(dtype, kind.mode == NEAREST), _channel_axis(kind)
        sides, fill = (form.shape(images_shape, axis), form.dtype), _fills(form, fill)
        write = self._kernels.prepare_sample(
            kind, *sides, off, fill.astype(computed(form.dtype)), form.shape(shape, axis)
        )
        return _converting(write, form, axis)

    def sample(self, kind, images, coords, off, fill, samples):  # noqa: D102
        if images.dtype.kind == "f":  # a tangent
            fill = fill.astype(images.dtype)
            self._kernels.sample(kind, images, coords, off, fill, samples)
            return
        write = self.prepare_sample(kind, images.shape, images.dtype, off, fill, samples.shape)
        write(images, coords, samples)

    def sample_vjp_images(self, kind, dsamples, coords, off, dimages):  # noqa: D102
        form, axis = _form_of(dsamples.dtype, False), _channel_axis(kind)
        target = form.target(dimages, axis)
        self._kernels.sample_vjp_images(kind, form.numbers(dsamples, axis), coords, off, target)
        form.store(target, dimages, axis)

    def sample_vjp_coords(self, kind, dsamples, images, coords, off, fill, dcoords):  # noqa: D102
        form, axis = _form_of(images.dtype, False), _channel_axis(kind)
        dsamples = _form_of(dsamples.dtype, False).numbers(dsamples, axis)
        self._kernels.sample_vjp_coords(
            kind, dsamples, form.numbers(images, axis), coords, off, form.numbers(fill, 0), dcoords
        )

    def sample_jvp_coords(self, kind, images, coords, coords_dot, off, fill, samples_dot):  # noqa: D102
        form, axis = _form_of(images.dtype, False), _channel_axis(kind)
        other = _form_of(samples_dot.dtype, False)
        target = other.numbers(samples_dot, axis)
        self._kernels.sample_jvp_coords(
            kind, form.numbers(images, axis), coords, coords_dot, off, form.numbers(fill, 0), target
        )
        other.store(target, samples_dot, axis)

    def sample_vjp_jvp_images(self, kind, dsamples, coords, coords_dot, off, dimages):  # noqa: D102
        form, axis = _form_of(dsamples.dtype, False), _channel_axis(kind)
        target = form.target(dimages, axis)
        self._kernels.sample_vjp_jvp_images(
            kind, form.numbers(dsamples, axis), coords, coords_dot, off, target
        )
        form.store(target, dimages, axis)

    def sample_vjp_jvp_coords(  # noqa: D102
        self, kind, dsamples, images, coords, coords_dot, off, fill, dcoords
    ):
        form, axis = _form_of(images.dtype, False), _channel_axis(kind)
        dsamples = _form_of(dsamples.dtype, False).numbers(dsamples, axis)
        self._kernels.sample_vjp_jvp_coords(
            kind, dsamples, form.numbers(images, axis), coords, coords_dot, off,
            form.numbers(fill, 0), dcoords,
        )  # fmt: skip

    def normal_equations(self, kind, images, coords, residuals, off, fill, jtj, jtr):  # noqa: D102
        form, axis = _form_of(images.dtype, False), _channel_axis(kind)
        residuals = _form_of(residuals.dtype, False).numbers(residuals, axis)
        self._kernels.normal_equations(
            kind, form.numbers(images, axis), coords, residuals, off, form.numbers(fill, 0), jtj,
            jtr,
        )  # fmt: skip

    def prepare_warp(self, kind, form, fill, image_shape, dtype, shape):
        """Prepare to warp one image."""
        check_labels("image", dtype, kind.mode)
        how, axis = _form_of(dtype, kind.mode == NEAREST), -1 if len(shape) == 3 else None
        write = self._kernels.prepare_warp(
            kind, form, _fills(how, fill), how.shape(image_shape, axis), how.dtype,
            how.shape(shape, axis),
        )  # fmt: skip
        return _converting(write, how, axis)

    def warp_patch(self, kind, form, fill, image, matrix, frame, out):
        """Warp a crop to a patch."""
        check_labels("image", image.dtype, kind.mode)
        how, axis = _form_of(image.dtype, kind.mode == NEAREST), -1 if image.ndim == 3 else None
        target = how.target(out, axis)
        self._kernels.warp_patch(
            kind, form, _fills(how, fill), how.numbers(image, axis), matrix, frame, target
        )
        how.store(target, out, axis)

    def warp_crops(self, kind, image, matrices, fill, crops):
        """Warp one image by several matrices."""
        check_labels("image", image.dtype, kind.mode)
        form = _form_of(image.dtype, kind.mode == NEAREST)
        axis = -1 if image.ndim == 3 else None
        target = form.target(crops, axis)
        self._kernels.warp_crops(
            kind, form.numbers(image, axis), matrices, _fills(form, fill), target
        )
        form.store(target, crops, axis)


def _channel_axis(kind):
    return -1 if kind.channels_last else 1


def _fills(form, fill):
    """Convert the fills of the channels."""
    return np.ascontiguousarray(form.numbers(fill, 0))


def _converting(write, form, axis):
    """Return ``write(images, coords, samples)`` for images of the form's dtype."""

    def convert(images, coords, samples):
        target = form.target(samples, axis)
        write(form.numbers(images, axis), coords, target)
        form.store(target, samples, axis)

    return convert


@functools.cache
def any_dtype_kernels() -> AnyDtype:
    """Return the CPU's kernels for images of any dtype."""
    return AnyDtype(backend(False))
