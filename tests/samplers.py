"""The samplers that are tested, and small problems for them.

A kernel is compiled for a source, mode, padding, dtype, layout and number of dimensions, in
seconds; there are hundreds of such kinds. So the tests share these: every mode with every padding
in the plane and in space (``EXACT``, float64), and every dtype with every mode (``STORED``), chosen
so that any two choices occur together in some row; :mod:`test_samplers` checks this.

Arrays here have their channels first; a sampler converts them to its own layout.
"""

from typing import NamedTuple

import numpy as np
import reference

import numba_stn as stn

MODES = ("nearest", "bilinear", "bicubic")
PADDINGS = ("zeros", "border", "reflection", "wrap", "fill")

FUNCTIONS = {
    "grid": (stn.grid_sample, stn.grid_sample_vjp, stn.grid_sample_jvp),
    "affine": (stn.warp_affine, stn.warp_affine_vjp, stn.warp_affine_jvp),
    "projective": (stn.warp_perspective, stn.warp_perspective_vjp, stn.warp_perspective_jvp),
}


class Sampler(NamedTuple):
    """A row of the tables: what a kernel is compiled for."""

    source: str
    mode: str
    padding: str
    dims: int
    layout: str
    dtype: str = "float64"
    coords: str = "float64"

    def __str__(self):
        return "-".join(map(str, self))

    def options(self, align_corners=False):
        """Options that the oracle and the package have in common."""
        return {
            "mode": self.mode, "padding_mode": self.padding, "align_corners": align_corners
        }  # fmt: skip

    @property
    def compute_dtype(self):
        """The dtype that values are computed in."""
        return np.dtype("float64" if self.dtype == "float64" else "float32")

    @property
    def dsamples(self):
        """The dtype of gradients of samples and images."""
        return np.dtype("float32" if self.dtype.startswith("u") else self.dtype)

    def to_layout(self, array):
        """Convert channels first to this sampler's layout."""
        if self.layout == "NCHW" or array is None:
            return array
        return np.ascontiguousarray(np.moveaxis(array, 1, -1))

    def from_layout(self, array):
        """Convert this sampler's layout to channels first."""
        return array if self.layout == "NCHW" or array is None else np.moveaxis(array, -1, 1)

    def sample(self, images, coords, size, align_corners=False, like=np.asarray, **options):
        """The package's samples."""
        kind = self.options(align_corners) | {"layout": self.layout} | options
        if self.source != "grid":
            kind["size"] = size
        found = FUNCTIONS[self.source][0](like(self.to_layout(images)), like(coords), **kind)
        if not kind.get("coverage"):
            return self.from_layout(found)
        return self.from_layout(found[0]), found[1]

    def vjp(self, dsamples, images, coords, align_corners=False, like=np.asarray, **options):
        """The package's gradients."""
        kind = self.options(align_corners) | {"layout": self.layout} | options
        arrays = (like(self.to_layout(dsamples)), like(self.to_layout(images)), like(coords))
        dimages, dcoords = FUNCTIONS[self.source][1](*arrays, **kind)
        return self.from_layout(dimages), dcoords

    def jvp(self, given, images_dot, coords_dot, align_corners=False, like=np.asarray):
        """The package's forward derivative; either tangent may be None."""
        kind = self.options(align_corners) | {"layout": self.layout, "fill": given.fill}
        if self.source != "grid":
            kind["size"] = given.size
        arrays = (
            self.to_layout(given.images),
            given.coords,
            self.to_layout(images_dot),
            coords_dot,
        )
        given_arrays = (None if array is None else like(array) for array in arrays)
        return self.from_layout(FUNCTIONS[self.source][2](*given_arrays, **kind))

    def grid(self, coords, size, align_corners=False):
        """The oracle's grid."""
        if self.source == "grid":
            return np.asarray(coords, float)
        make = reference.affine_grid if self.source == "affine" else reference.projective_grid
        return make(coords, size, align_corners)

    def grid_vjp(self, dgrid, coords, align_corners=False):
        """Convert the gradient of the oracle's grid to that of the coordinates."""
        if self.source == "grid":
            return dgrid
        if self.source == "affine":
            return reference.affine_grid_vjp(dgrid, align_corners)
        return reference.projective_grid_vjp(dgrid, coords, align_corners)


def rows(table):
    """Samplers from lines of text."""
    for line in table.strip().splitlines():
        source, mode, padding, dims, *rest = line.split()
        yield Sampler(source, mode, padding, int(dims), *rest)


# Every mode with every padding, in the plane and in space, in float64.
EXACT = list(
    rows("""
    projective  nearest   zeros       2  NCHW
    grid        nearest   border      2  NHWC
    affine      nearest   reflection  2  NCHW
    affine      nearest   wrap        2  NHWC
    grid        nearest   fill        2  NCHW
    grid        bilinear  zeros       2  NHWC
    projective  bilinear  border      2  NHWC
    projective  bilinear  reflection  2  NCHW
    affine      bilinear  wrap        2  NCHW
    affine      bilinear  fill        2  NHWC
    grid        bicubic   zeros       2  NCHW
    affine      bicubic   border      2  NHWC
    affine      bicubic   reflection  2  NCHW
    projective  bicubic   wrap        2  NHWC
    projective  bicubic   fill        2  NCHW
    grid        nearest   zeros       3  NHWC
    affine      nearest   border      3  NCHW
    grid        nearest   reflection  3  NCHW
    affine      nearest   wrap        3  NHWC
    grid        nearest   fill        3  NHWC
    affine      bilinear  zeros       3  NCHW
    grid        bilinear  border      3  NHWC
    affine      bilinear  reflection  3  NHWC
    grid        bilinear  wrap        3  NCHW
    affine      bilinear  fill        3  NCHW
    projective  bilinear  zeros       3  NHWC
    projective  nearest   fill        3  NCHW
    grid        bicubic   zeros       3  NHWC
    projective  bicubic   border      3  NCHW
    affine      bicubic   reflection  3  NCHW
    grid        bicubic   wrap        3  NCHW
    affine      bicubic   fill        3  NHWC
""")
)

# Samplers that compute in float32, from float32, float16 and integers.
STORED = list(
    rows("""
    grid        nearest   zeros       2  NCHW  float32  float32
    grid        bicubic   zeros       2  NCHW  float32  float32
    grid        nearest   zeros       3  NCHW  float32  float32
    grid        bilinear  zeros       3  NCHW  float32  float32
    affine      bilinear  fill        2  NHWC  float32  float64
    affine      nearest   reflection  2  NHWC  float16  float64
    projective  bilinear  wrap        2  NCHW  float16  float32
    affine      bicubic   border      2  NCHW  float16  float32
    grid        bilinear  fill        3  NHWC  float16  float32
    projective  nearest   fill        2  NCHW  uint8    float32
    affine      bilinear  zeros       2  NHWC  uint8    float32
    affine      bicubic   fill        2  NHWC  uint8    float64
    affine      bilinear  border      3  NCHW  uint8    float32
    affine      nearest   wrap        3  NHWC  uint16   float32
    grid        bilinear  reflection  2  NCHW  uint16   float64
    projective  bicubic   reflection  2  NHWC  uint16   float64
    projective  bicubic   zeros       3  NHWC  uint8    float32
""")
)

ALL = EXACT + STORED


# --- Problems -------------------------------------------------------------------------------------


class Problem(NamedTuple):
    """Images, the coordinates at which they are sampled, and a gradient of the samples."""

    images: np.ndarray
    coords: np.ndarray
    dsamples: np.ndarray
    size: tuple
    fill: np.ndarray


def pixels(rng, shape, dtype):
    """Noise over an integer's whole range, or around zero."""
    if np.dtype(dtype).kind == "u":
        return rng.integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)
    return rng.standard_normal(shape).astype(dtype)


def problem(rng, sampler, sides=(4, 5, 7), size=(3, 4, 6), batch=2, channels=2, align=False):
    """A random problem with coordinates inside, near the edges, and some far outside."""
    sides, size = sides[-sampler.dims :], size[-sampler.dims :]
    images = pixels(rng, (batch, channels, *sides), sampler.dtype)
    coords = coordinates(rng, sampler, batch, sides, size, align).astype(sampler.coords)
    dsamples = rng.standard_normal((batch, channels, *size)).astype(sampler.dsamples)
    return Problem(images, coords, dsamples, size, pixels(rng, channels, sampler.dtype))


def coordinates(rng, sampler, batch, sides, size, align=False):
    """A grid away from integer and half pixels, where slopes jump; or random maps."""
    if sampler.source == "grid":
        far = rng.choice([0, 8], (batch, *size, 1))
        whole = rng.uniform(-1 - far, np.add(sides[::-1], far), (batch, *size, sampler.dims))
        pixel = np.floor(whole)
        pixel += rng.choice([0.25, 0.75], pixel.shape) + rng.uniform(-0.2, 0.2, pixel.shape)
        return normalised(pixel, sides, align)
    theta = np.eye(sampler.dims + (sampler.source == "projective"), sampler.dims + 1)
    theta = theta + 0.5 * rng.standard_normal((batch, *theta.shape))
    if sampler.source == "projective":  # the divisor is not 0 between -1 and 1
        reach = [0.4] * 2 if sampler.dims == 2 else [0.25] * 3
        theta[:, -1] = [0] * sampler.dims + [1]
        theta[:, -1] += rng.uniform(-1, 1, (batch, sampler.dims + 1)) * [*reach, 0.12]
    return theta


def normalised(pixel, sides, align):
    """Coordinates (x, y, ...) of pixels, for images of these sides."""
    side = np.array(sides[::-1], float)
    return 2 * pixel / np.maximum(side - 1, 1) - 1 if align else (2 * pixel + 1) / side - 1


def expected(sampler, given, align=False):
    """The oracle's samples, gradients of images and of coordinates."""
    grid = sampler.grid(given.coords, given.size, align)
    chosen = sampler.options(align) | {"fill": given.fill}
    images = np.asarray(given.images, float)
    samples = reference.grid_sample(images, grid, **chosen)
    dimages, dgrid = reference.grid_sample_vjp(given.dsamples, images, grid, **chosen)
    return samples, dimages, sampler.grid_vjp(dgrid, given.coords, align)


def found(sampler, given, align=False, **options):
    """The package's samples and gradients."""
    arrays = (given.images, given.coords)
    samples = sampler.sample(*arrays, given.size, align, fill=given.fill, **options)
    return samples, *sampler.vjp(given.dsamples, *arrays, align, fill=given.fill)
