"""The kernel calls of every sampler, whatever the source of its coordinates."""

from typing import Any, NamedTuple

import numpy as np

from ..kernels.math.dtypes import computed
from ..kernels.math.sampler_kind import NEAREST
from .validate import Options, check_array, check_not_empty, expand_fill


class Sampler(NamedTuple):
    """Images and the coordinates at which they are sampled; both are checked already."""

    kernels: Any
    source: int
    images: Any
    coords: Any
    options: Options

    @property
    def kind(self):
        """The kind of sampler, which the kernels are specialised for."""
        return self.options.kind(self.source, self.images)

    @property
    def fill(self):
        """The value outside the image, one per channel."""
        return expand_fill(self.options.fill, self.kind.channels(self.images), self.images.dtype)

    def sample(self, size, out=None, coverage=False, stream=None):
        """Return the samples and, with ``coverage``, how much of each comes from inside."""
        kernels, kind, images, coords = self.kernels, self.kind, self.images, self.coords
        shape = kind.shape(len(coords), kind.channels(images), size)
        samples = kernels.output(shape, images, coords, out, stream)
        covered = kernels.empty((len(coords), *size), coords.dtype, coords) if coverage else None
        self.write(samples, covered)
        samples = kernels.returned(samples, out)
        return (samples, kernels.returned(covered)) if coverage else samples

    def write(self, samples, covered=None):
        """Write the samples and, if there is an array for it, the coverage."""
        kernels, kind, images, coords = self.kernels, self.kind, self.images, self.coords
        fill, off = self.fill, self.options.off
        if samples.size:
            kernels.sample(kind, images, coords, off, fill, samples)
        if covered is not None and covered.size:
            kernels.coverage(kind, coords, kind.spatial(images), off, covered)

    def vjp(self, dsamples, wanted, size=(None, None)):
        """Return the gradients with respect to images and coordinates, None where not wanted."""
        kernels, kind, images, coords = self.kernels, self.kind, self.images, self.coords
        fill, off = self.fill, self.options.off
        size = size if size[0] is not None else (None,) * kind.dims
        expected = np.dtype(np.float32) if images.dtype.kind == "u" else images.dtype
        shape = kind.shape(len(coords), kind.channels(images), size)
        check_array("dsamples", dsamples, shape, (expected,))
        check_not_empty("dsamples", kind.spatial(dsamples))
        dimages = dcoords = None
        given, dsamples = dsamples, kernels.converted(dsamples, computed(expected))
        if wanted[0]:
            dimages = kernels.empty(images.shape, dsamples.dtype, images)
            kernels.sample_vjp_images(kind, dsamples, coords, off, dimages)
            dimages = kernels.returned(kernels.converted(dimages, given.dtype))
        if wanted[1]:
            dcoords = kernels.empty(coords.shape, coords.dtype, coords)
            if kind.mode == NEAREST:  # small steps do not change the nearest pixel
                kernels.clear(dcoords)
            else:
                kernels.sample_vjp_coords(kind, dsamples, images, coords, off, fill, dcoords)
            dcoords = kernels.returned(dcoords)
        return dimages, dcoords
