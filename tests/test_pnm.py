"""Pixmaps whose header has the line ends of Windows, as some data sets have them."""

import numpy as np
import pytest

from numba_stn.images.files import FileError, read_image

PIXELS = np.arange(6 * 5 * 3, dtype=np.uint8).reshape(6, 5, 3) + 100


def written(path, content):
    path.write_bytes(content)
    return read_image(path)


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("header", ["P6~5 6~255~", "P6~# a comment~5 6~255~", "P6~5~6~255~"])
def test_colours_are_not_shifted(tmp_path, ends, header):
    content = header.replace("~", ends).encode() + PIXELS.tobytes()
    np.testing.assert_array_equal(written(tmp_path / "a.ppm", content), PIXELS)
    rest = written(tmp_path / "a.ppm", content + b"\n\n")
    np.testing.assert_array_equal(rest, PIXELS)


@pytest.mark.parametrize("ends", [b"\n", b"\r\n"])
def test_grey_and_binary_pixmaps(tmp_path, ends):
    grey = PIXELS[:, :, 0]
    found = written(tmp_path / "a.pgm", ends.join([b"P5", b"5 6", b"255", grey.tobytes()]))
    np.testing.assert_array_equal(found, grey)
    bits = np.array([[1, 0, 1, 1, 0], [0, 1, 0, 0, 1]], bool)
    found = written(tmp_path / "a.pbm", ends.join([b"P4", b"5 2", np.packbits(bits, 1).tobytes()]))
    np.testing.assert_array_equal(found == 0, bits)


def test_a_first_pixel_that_is_a_line_feed_is_a_pixel(tmp_path):
    """Of a header that ends with one carriage return, the byte after it belongs to the pixels."""
    pixels = PIXELS.copy()
    pixels[0, 0, 0] = 10
    found = written(tmp_path / "a.ppm", b"P6\r\n5 6\r\n255\r" + pixels.tobytes())
    np.testing.assert_array_equal(found, pixels)
    found = written(tmp_path / "a.ppm", b"P6\n5 6\n255\n" + pixels.tobytes())
    np.testing.assert_array_equal(found, pixels)


def test_broken_pixmaps_are_refused(tmp_path):
    whole = b"P6\r\n5 6\r\n255\r\n" + PIXELS.tobytes()
    for content in (whole[:-2], whole[:9], b"P6\r\n", b"P6\r\n5 6\r\nx\r\n"):
        with pytest.raises(FileError):
            written(tmp_path / "a.ppm", content)
