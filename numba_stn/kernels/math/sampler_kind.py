"""What a sampler is made for: the choices that every target's kernels are compiled for."""

from typing import NamedTuple

# The coordinate source: a grid in memory, or a matrix from which coordinates are computed.
GRID, AFFINE, PROJECTIVE = 0, 1, 2

# The form of an image's matrix. Those that neither rotate nor shear may have kernels of their own.
GENERAL, ALIGNED, IDENTITY = 0, 1, 2

# The padding: what a coordinate outside the image means.
ZEROS, BORDER, REFLECTION, WRAP, FILL = 0, 1, 2, 3, 4

# The mode: how values between pixels are computed.
NEAREST, BILINEAR, BICUBIC = 0, 1, 2

# The number of pixels that each mode reads along an axis.
TAPS = (1, 2, 4)


class Kind(NamedTuple):
    """A coordinate source, a mode and a padding for each axis, and a memory layout."""

    source: int
    mode: int = BILINEAR
    padding: int = ZEROS
    dims: int = 2
    channels_last: bool = False
    between_pixels: bool = False  # the source is a matrix from output to input pixels

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
