"""What a sampler is made for: the choices that every target's kernels are compiled for."""

from typing import NamedTuple

# The coordinate source: a grid in memory, or a matrix from which coordinates are computed.
GRID, AFFINE, PROJECTIVE = 0, 1, 2

# The form of an image's matrix. Those that neither rotate nor shear may have kernels of their own.
GENERAL, ALIGNED, IDENTITY = 0, 1, 2

# The padding: what a coordinate outside the image means. MIRROR reflects at pixel centres.
ZEROS, BORDER, REFLECTION, WRAP, FILL, MIRROR = 0, 1, 2, 3, 4, 5

# The mode: how values between pixels are computed. From BICUBIC on, samples also read pixels that
# are not next to them.
NEAREST, BILINEAR, BICUBIC, CATMULL_ROM = 0, 1, 2, 3
SPLINE2, SPLINE3, SPLINE4, SPLINE5, LANCZOS4 = 4, 5, 6, 7, 8

# The number of pixels that each mode reads along an axis, and how many of them are before the lower
# (for splines of even order: the nearest) one.
TAPS = (1, 2, 4, 4, 3, 4, 5, 6, 8)
BEFORE = (0, 0, 1, 1, 1, 1, 2, 2, 3)

# The taps of a spline are not pixels but coefficients (:mod:`.splines`). For a call with pixels the
# number of its mode is this much larger; no kernel is made for it.
FILTERED = 16

# The pixels by which coefficients are continued beyond each edge, if the padding is not periodic.
SPLINE_MARGIN = 12


class Kind(NamedTuple):
    """A coordinate source, a mode and a padding for each axis, and a memory layout."""

    source: int
    mode: int = BILINEAR
    padding: int = ZEROS
    dims: int = 2
    channels_last: bool = False
    between_pixels: bool = False  # the source has input pixels: a matrix for output pixels, a grid

    def needs_filter(self):
        """Whether the images have to be replaced by the coefficients of splines."""
        return self.mode >= FILTERED

    def of_coefficients(self):
        """The same kind for images that are coefficients already."""
        return self._replace(mode=self.mode - FILTERED) if self.needs_filter() else self

    def is_common(self):
        """Whether it is the common kind, which has kernels of its own, for speed."""
        return (
            self.source in (GRID, AFFINE)
            and self.mode == BILINEAR
            and self.padding in (ZEROS, BORDER, REFLECTION)
            and self.dims == 2
            and not self.channels_last
        )

    def spatial(self, array):
        """The spatial shape (D, H, W) or (H, W) of a batch."""
        return array.shape[1:-1] if self.channels_last else array.shape[2:]

    def channels(self, array):
        """The number of channels of a batch."""
        return array.shape[-1 if self.channels_last else 1]

    def shape(self, batch, channels, size):
        """Shape of a batch."""
        return (batch, *size, channels) if self.channels_last else (batch, channels, *size)
