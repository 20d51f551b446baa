"""Portable pixmaps (PNM) whose header has the line ends of Windows.

The format says that one white-space character follows the header. Some programs write two, carriage
return and line feed. Pillow then takes the second for the first byte of the pixels, so that each
colour becomes the next one.
"""

import io
import pathlib
import re
from typing import BinaryIO

# The headers of binary files whose first line ends as those of Windows do; comments begin with #.
_GAP = rb"(?:\s|#[^\r\n]*[\r\n])+"
_BITS = re.compile(rb"(P4)" + _GAP + rb"(\d+)" + _GAP + rb"(\d+)\r\n")
_NUMBERS = re.compile(rb"(P[56])" + 3 * (_GAP + rb"(\d+)") + rb"\r\n")
_LONGEST = 1024  # bytes of a header


def open_image(path: pathlib.Path) -> BinaryIO:
    """Open an image file to read it; of a pixmap with two characters after its header, one is read.

    Raises
    ------
    OSError
        If it cannot be opened.
    """
    file = path.open("rb")
    start = file.peek(_LONGEST)[:_LONGEST]
    if not start.startswith((b"P4\r\n", b"P5\r\n", b"P6\r\n")):
        return file
    with file:
        content = file.read()
    found = (_BITS if content.startswith(b"P4") else _NUMBERS).match(content)
    if found is None or len(content) - found.end() < _pixel_bytes(*found.groups()):
        return io.BytesIO(content)
    return io.BytesIO(b" ".join(found.groups()) + b"\n" + content[found.end() :])


def _pixel_bytes(kind, width, height, largest=b"1"):
    """Number of bytes of a pixmap's pixels."""
    if kind == b"P4":
        return -(-int(width) // 8) * int(height)
    samples = int(width) * int(height) * (3 if kind == b"P6" else 1)
    return samples * (2 if int(largest) > 255 else 1)
