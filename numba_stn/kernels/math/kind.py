"""What a sampler is made for: the choices that every target's kernels are compiled for."""

from typing import NamedTuple

# Where the coordinates come from: an array in memory, or a matrix, computed on the fly.
GRID, AFFINE, PROJECTIVE = 0, 1, 2

# What a coordinate outside the image means.
ZEROS, BORDER, REFLECTION, WRAP, FILL = 0, 1, 2, 3, 4

# How values between pixels are formed.
NEAREST, BILINEAR, BICUBIC = 0, 1, 2

# How many pixels each mode reads along an axis.
TAPS = (1, 2, 4)


class Kind(NamedTuple):
    """A coordinate source, a rule along each axis, and how arrays are laid out."""

    source: int
    mode: int = BILINEAR
    padding: int = ZEROS
    dims: int = 2
    channels_last: bool = False
    between_pixels: bool = False  # the source is a matrix from output to input pixels

    def is_common(self):
        """Whether it is the kind that has kernels of its own, for speed."""
        return (
            self.source in (GRID, AFFINE)
            and self.mode == BILINEAR
            and self.padding in (ZEROS, BORDER, REFLECTION)
            and self.dims == 2
            and not self.channels_last
        )

    def spatial(self, array):
        """The lengths (D, H, W) or (H, W) of a batch."""
        return array.shape[1:-1] if self.channels_last else array.shape[2:]

    def channels(self, array):
        """The number of channels of a batch."""
        return array.shape[-1 if self.channels_last else 1]

    def shape(self, batch, channels, size):
        """Shape of a batch."""
        return (batch, *size, channels) if self.channels_last else (batch, channels, *size)
