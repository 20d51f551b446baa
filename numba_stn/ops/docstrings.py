"""Docstring entries that many public functions share, and the decorator that inserts them.

A docstring names shared entries in braces, on a line of their own, among its other parameters::

    grid : (N, H_out, W_out, 2) array of float32 or float64
        Normalised coordinates.
    {mode, padding_mode, stream}

:func:`documented` replaces this line by the entries of :data:`ENTRIES` when the function is
defined, so ``help``, doctest and Sphinx read the complete docstring.
"""

import re
import textwrap
from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

_LINE = re.compile(r"^( *)\{(\w+(?:, \w+)*)\}$", re.MULTILINE)


def documented(function: F) -> F:
    """Replace the lines ``{name, name, ...}`` of a docstring by the shared entries."""
    if function.__doc__:  # None under python -OO
        function.__doc__ = _LINE.sub(_insert, function.__doc__)
    return function


def _insert(match):
    """Return the named entries, indented as their line."""
    indent, names = match.groups()
    return textwrap.indent("\n".join(ENTRIES[name] for name in names.split(", ")), indent)


_IMAGES = """\
images : {shape} array of float32, float64, float16, uint8 or uint16
    With N = 1, every grid or map samples the same image. Integers and float16 are converted to
    float32 one pixel at a time; there is no float copy of the images. On the CPU also bool,
    other integers and complex numbers, by the rules of :func:`numba_stn.warp_image`; these are
    copied."""

_POINT_MODE = """\
mode : {"bilinear", "nearest", "bicubic", "catmull-rom", "lanczos4"}
    Interpolation between pixels.

    - bilinear: linear between the 2 nearest pixels along each axis.
    - nearest: the nearest pixel; of two equally near pixels, the one with the even index.
    - bicubic: Keys's cubic convolution of 4 pixels along each axis, with a = -0.75.
    - catmull-rom: the same with a = -0.5.
    - lanczos4: a windowed sinc over 8 pixels along each axis"""

_MODE = (
    _POINT_MODE.replace('"lanczos4"}', '"lanczos4", "spline2" to "spline5"}')
    + """.
    - spline2, spline3, spline4, spline5: the B-spline of this order through all pixels"""
)

ENTRIES = {
    # Batches of images.
    "images": _IMAGES.format(shape="(N, C, H, W) or (N, C, D, H, W)"),
    "plane_images": _IMAGES.format(shape="(N, C, H, W)"),
    "theta": """\
theta : (N, 2, 3) or (N, 3, 4) array of float32 or float64
    Maps normalised output coordinates (x, y) or (x, y, z) to normalised input coordinates.""",
    "projective_theta": """\
theta : (N, 3, 3) or (N, 4, 4) array of float32 or float64
    Maps normalised output coordinates (x, y, 1) or (x, y, z, 1) to normalised input coordinates
    times w, and w.""",
    "control": """\
control : (N, K, 2) array of float32 or float64
    Sampling positions of the K = k * k points of :func:`numba_stn.control_points`: where each
    of them reads the input, in normalised coordinates, x before y.""",
    "points": """\
points : (N, P, 2) or (N, P, 3) array of float32 or float64
    Normalised coordinates, x before y before z.""",
    "size": """\
size : (H_out, W_out) or (D_out, H_out, W_out), optional
    The output's spatial shape; by default, that of the images. PyTorch's full shape (N, C, ...)
    is accepted too.""",
    "plane_size": """\
size : (H_out, W_out), optional
    The output's spatial shape; by default, that of the images. PyTorch's full shape (N, C, ...)
    is accepted too.""",
    "mode": _MODE + ".",
    "point_mode": _POINT_MODE + ".",
    "padding_mode": """\
padding_mode : {"zeros", "border", "reflection", "mirror", "wrap", "fill"}
    Values outside the image.

    - zeros: ``fill``; the image fades into it over one pixel.
    - border: the nearest pixel of the border.
    - reflection: the image mirrored at -1 and 1.
    - mirror: the image mirrored at the centres of its outermost pixels, whether corners are
      aligned or not.
    - wrap: the image repeated, side by side, whether corners are aligned or not.
    - fill: ``fill`` outside [-1, 1] and border inside, so that nothing fades.

    NaN, infinite and huge coordinates are outside under zeros and fill; the other modes move
    them to an edge.""",
    "align_corners": """\
align_corners : bool
    Whether -1 and 1 are the centres of the corner pixels (True) or their outer edges (False).""",
    "fill": """\
fill : float, or one for each channel
    Value outside the image under zeros and fill.""",
    "layout": """\
layout : {"NCHW", "NHWC"}
    Whether the channels of images and samples come before the spatial axes or last. NCDHW and
    NDHWC mean the same.""",
    "coverage": """\
coverage : bool
    Whether to return, as a second array, how much of each sample comes from inside the image:
    the sum of the weights of its taps there (under ``padding_mode="fill"``, 1 or 0).""",
    "antialias": """\
antialias : bool
    Whether to average over each output pixel's area where the map shrinks the image. An output
    pixel is then the mean of as many samples along each axis as it covers input pixels, at most
    16. Otherwise it is a single sample, however small the output is.""",
    "out": """\
out : array of the samples' shape and the images' dtype, optional
    Where to write the samples; it must not overlap the inputs.""",
    "stream": """\
stream : stream of Numba, CuPy or PyTorch, or its address, optional
    CUDA stream on which the kernels for arrays on a GPU run; the call does not wait for them.
    By default, the current stream of the arrays' library.""",
    "regularisation": """\
regularisation : float
    0: the spline passes through ``control``. Above 0: the spline is smoother and only comes
    near ``control``; it minimises ``sum_k |f(p_k) - control_k|^2 + regularisation w^T U w``,
    where 16 pi times w^T U w is its bending energy, the integral of its squared second
    derivatives. A very large value leaves the affine map of least squares. A GPU is
    synchronised when it meets a K and a regularisation for the first time.""",
    # Gradients and tangents.
    "dsamples": """\
dsamples : array of the samples' shape
    Gradient of the loss with respect to the samples; of the images' dtype, or float32 if the
    images are integers.""",
    "dgrid": """\
dgrid : array of the grid's shape, of float32 or float64
    Gradient of the loss with respect to the grid.""",
    "wrt": """\
wrt : collection of str
    Names of the inputs whose gradients are wanted; by default, all. The gradient of any other
    input is None and costs nothing.""",
    "images_dot": """\
images_dot : array of the images' shape, optional
    Tangent of the images; float32 if they are integers or float16. By default, zero.""",
    "dsamples_dot": """\
dsamples_dot : array of dsamples' shape and dtype, optional
    Tangent of dsamples. By default, zero.""",
    "ddimages": """\
ddimages : array of the images' shape, or None
    Gradient of the second loss with respect to the first gradient of the images; of the
    images' dtype, or float32 if the images are integers. None: zero.""",
    # One image.
    "image": """\
image : (H, W) or (H, W, C) array of numbers or bool
    Integers are interpolated in float32, those of 32 bits in float64, and rounded, a half to
    the even neighbour, and saturated; int64 and uint64 are labels, which only
    ``mode="nearest"`` takes, exactly. float16 is interpolated in float32. An interpolated bool
    is True where more than half of it is. The real and imaginary parts of complex numbers are
    two channels. On a GPU: uint8, uint16, float32 or float64.""",
    "image_mode": _MODE + ".",
    "image_padding_mode": """\
padding_mode : {"zeros", "border", "reflection", "mirror", "wrap", "fill"}
    Values outside the image.

    - zeros: ``fill``; the image fades into it over one pixel.
    - border: the nearest pixel of the border.
    - reflection: the image mirrored at its outer edges (OpenCV's BORDER_REFLECT).
    - mirror: the image mirrored at the centres of its outermost pixels (BORDER_REFLECT_101).
    - wrap: the image repeated.
    - fill: ``fill`` beyond the outer edges and border up to them, so that nothing fades.""",
    "image_fill": """\
fill : number, or C of them
    Value outside the image under zeros and fill; the image's dtype must be able to hold it.""",
    "image_alpha": """\
alpha : bool
    Whether the last of 2 or 4 channels is alpha, 0 where the image is transparent. Colours
    are then multiplied by it while they are interpolated, so that transparent pixels do not
    darken visible ones. On the CPU.""",
    "image_antialias": """\
antialias : bool
    Whether to average over each output pixel's area where the map shrinks the image. An output
    pixel is then the mean of as many samples along each axis as it covers input pixels.
    Otherwise it is a single sample, however small the output is. On the CPU.""",
    "image_filter": """\
antialias : bool, or {"area", "triangle", "cubic", "cubic-0.75", "lanczos3"}
    Whether to average over each output pixel's area where the image shrinks, by which filter.
    Filters are separable, and as many times wider as the image shrinks. They end where the
    image does, so ``padding_mode`` must be "border". On the CPU.

    - area: the mean over the output pixel's area, as OpenCV's INTER_AREA.
    - triangle: linear from the pixel's middle; Pillow's BILINEAR, PyTorch's "bilinear".
    - cubic: Keys's cubic with a = -0.5; Pillow's BICUBIC, PyTorch's "bicubic".
    - cubic-0.75: Keys's cubic with a = -0.75, as ``mode="bicubic"``.
    - lanczos3: a sinc under a window of 3 pixels to each side; Pillow's LANCZOS.

    A name takes the place of the mode. True means "triangle" for bilinear, "cubic" for
    bicubic and "area" for nearest.""",
    "return_matrix": """\
return_matrix : bool
    Whether to return (out, matrix), with the (3, 3) float64 matrix from input to output pixels,
    one for each box. :func:`numba_stn.transform_points` and :func:`numba_stn.transform_boxes`
    take it; ``stn.matrices.from_opencv(matrix)`` is that of :func:`numba_stn.warp_image`.""",
    "volume_matrix": """\
return_matrix : bool
    Whether to return (out, matrix), with the (4, 4) float64 matrix from input to output voxels
    (x, y, z), one for each box. :func:`numba_stn.transform_points` takes it.""",
    "image_out": """\
out : array of the result's shape and dtype, optional
    Where to write the result; it must not overlap the image.""",
    # Errors.
    "errors": """\
ValueError, TypeError
    If an argument has the wrong shape, type or value; the message names it.""",
}
