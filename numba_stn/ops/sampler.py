"""How images are sampled at coordinates, whatever the source of these: checks and kernel calls."""

from typing import Any

from ..kernels.math.dtypes import computed
from ..kernels.math.sampler_kind import AFFINE, GRID, NEAREST, PROJECTIVE
from .any_dtype import gradient_dtype
from .validate import (
    check_array,
    check_batch_sizes,
    check_images,
    check_not_empty,
    check_output_size,
    expand_fill,
    kernels_for_batch,
    options_key,
    remember,
    size_key,
)


class Plan:
    """How images are sampled at coordinates: everything but the arrays, which are checked already.

    ``size`` is the output's sides, ``shape`` the shape of the samples. ``prepared(images, coords,
    samples)``, if there is one, writes samples of the images for which the plan was made.
    """

    def __init__(self, kernels, kind, off, fill, batch, size, images=None):
        self.kernels, self.kind, self.off, self.fill = kernels, kind, off, fill
        self.batch, self.size = batch, size
        self.real = computed(fill.dtype)  # of gradients and tangents
        self.shape = kind.shape(batch, len(fill), size)
        self.prepared = images and kernels.prepare_sample(kind, *images, off, fill, self.shape)

    def with_kernels(self, kernels):
        """Return the same plan with other kernels."""
        return Plan(kernels, self.kind, self.off, self.fill, self.batch, self.size)

    def resized(self, batch, size):
        """Return the same plan for another number of samples, and other sides."""
        return Plan(self.kernels, self.kind, self.off, self.fill, batch, size)

    def sample(self, images, coords, out=None, coverage=False, stream=None):
        """Return the samples and, with ``coverage``, how much of each comes from inside."""
        kernels = self.kernels
        samples = kernels.output(self.shape, images, coords, out, stream)
        if self.prepared and not coverage:
            if samples.size:
                self.prepared(images, coords, samples)
            return kernels.returned(samples, out)
        covered = None
        if coverage:
            covered = kernels.empty((self.batch, *self.size), coords.dtype, coords)
        self.write(images, coords, samples, covered)
        samples = kernels.returned(samples, out)
        return (samples, kernels.returned(covered)) if coverage else samples

    def write(self, images, coords, samples, covered=None):
        """Write the samples and, if there is an array for it, the coverage."""
        kernels, kind = self.kernels, self.kind
        if samples.size:
            kernels.sample(kind, images, coords, self.off, self.fill, samples)
        if covered is not None and covered.size:
            kernels.coverage(kind, coords, kind.spatial(images), self.off, covered)

    def vjp(self, dsamples, images, coords, wanted):
        """Return the gradients with respect to images and coordinates, None where not wanted."""
        kernels, kind, off = self.kernels, self.kind, self.off
        dimages = dcoords = None
        given, dsamples = dsamples.dtype, kernels.converted(dsamples, self.real)
        if wanted[0]:
            dimages = kernels.empty(images.shape, dsamples.dtype, images)
            if dsamples.size:
                kernels.sample_vjp_images(kind, dsamples, coords, off, dimages)
            else:
                kernels.clear(dimages)
            dimages = kernels.returned(kernels.converted(dimages, given))
        if wanted[1]:
            dcoords = kernels.empty(coords.shape, coords.dtype, coords)
            # There are no samples, or small steps do not change the nearest pixel.
            if not dsamples.size or kind.mode == NEAREST:
                kernels.clear(dcoords)
            else:
                kernels.sample_vjp_coords(kind, dsamples, images, coords, off, self.fill, dcoords)
            dcoords = kernels.returned(dcoords)
        return dimages, dcoords


# --- Plans for the arrays of a call ---------------------------------------------------------------

_plans: dict[Any, Plan] = {}


def find_plan(kernels, check, images, coords, options, size=None, dsamples=None):
    """Return the plan for these arrays, made now or by an earlier call.

    ``check`` is one of the functions below. ``size`` None is that of the images; or, with
    ``dsamples``, the gradient of the samples, any size.
    """
    try:
        key: tuple[Any, ...] = (
            kernels, check, images.shape, images.dtype, coords.shape, coords.dtype,
            options_key(options), size_key(size),
        )  # fmt: skip
        if dsamples is not None:
            key = *key, dsamples.shape, dsamples.dtype
        found = _plans.get(key)
    except TypeError:
        return _make_plan(kernels, check, images, coords, options, size, dsamples)
    if found is None:
        found = _make_plan(kernels, check, images, coords, options, size, dsamples)
        remember(_plans, key, found)
    return found


def _make_plan(kernels, check, images, coords, options, size, dsamples):
    """Check shapes, dtypes and options."""
    kind, batch = check(images, coords, options), coords.shape[0]
    channels, dtype = kind.channels(images), images.dtype
    fill = expand_fill(options.fill, channels, dtype)
    if dsamples is not None:
        shape = kind.shape(batch, channels, (None,) * kind.dims if size is None else size)
        check_array("dsamples", dsamples, shape, (gradient_dtype(dtype),))
        size = kind.spatial(dsamples)
        if check is not check_grid:  # which may have no positions
            check_not_empty("dsamples", size)
    elif check is check_grid:
        size = coords.shape[1:-1]
    elif size is None:
        size = kind.spatial(images)
    else:
        size = check_output_size(size, batch, kind.dims)
    given, kernels = (images.shape, dtype), kernels_for_batch(kernels, dtype)
    return Plan(kernels, kind, options.off, fill, batch, tuple(size), given)


# --- Checks: the kind of sampler, for images and coordinates that fit each other ------------------


def check_grid(images, grid, options):
    """Return the kind of sampler for images and a grid."""
    images = check_images(images, options)
    dims = len(images.shape) - 2
    check_array("grid", grid, (*[None] * (dims + 1), dims))
    check_batch_sizes(images, "grid", grid)
    return options.kind(GRID, images)


def check_affine(images, theta, options):
    """Return the kind of sampler for images and affine maps."""
    return _check_theta(AFFINE, images, theta, options)


def check_projective(images, theta, options):
    """Return the kind of sampler for images and projective maps."""
    return _check_theta(PROJECTIVE, images, theta, options)


def _check_theta(source, images, theta, options):
    images = check_images(images, options)
    dims = len(images.shape) - 2
    check_array("theta", theta, (None, dims + (source == PROJECTIVE), dims + 1))
    check_batch_sizes(images, "theta", theta)
    return options.kind(source, images)
