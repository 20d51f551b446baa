"""TIFF files that Pillow does not read in full, by tifffile: see :func:`read_tiff`.

tifffile reads and writes any numbers and several pages; Pillow knows palettes, colour models and
compressions for 8 bits.
"""

import contextlib
import logging
import math
import pathlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

from .file_error import FileError, shorten
from .metadata import Metadata, copy_exif
from .pictures import check_pixels, read_picture

SUFFIXES = (".tif", ".tiff")

# What a page's numbers mean, of the meanings that TIFF has.
_COLOURS = ("MINISBLACK", "MINISWHITE", "RGB")

# Tags of TIFF that have text, and are carried along.
_TEXTS = (270, 271, 272, 306, 315, 33432)

# What the number of the orientation tag says, and how an image becomes upright.
_UPRIGHT: dict[int, Callable] = {
    2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1), 6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1), 8: np.rot90,
}  # fmt: skip

# tifffile logs what it then raises, and remarks about files that it reads.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


def read_tiff(path: pathlib.Path, allow_large: bool = False) -> tuple[np.ndarray, Metadata]:
    """Read the only page of a TIFF.

    Up to 8 bits per channel are read by Pillow, as are files of any kind without tifffile.
    """
    try:
        import tifffile
    except ImportError:
        return read_picture(path, allow_large)
    with _errors_of(path), tifffile.TiffFile(path) as tiff:
        if not len(tiff.pages):
            raise FileError(f"{path}: expected an image, got none")
        _check_chain(path, tiff)
        if len(tiff.pages) > 1 or len(tiff.series) > 1:
            raise FileError(f"{path}: expected one image, got {len(tiff.pages)}")
        page = tiff.pages.first
        if not _is_for_pillow(page):
            check_pixels(path, page.imagewidth, page.imagelength, allow_large)
            return read_page(path, page), metadata_of(page)
    return read_picture(path, allow_large)


@contextlib.contextmanager
def _errors_of(path):
    """Raise whatever a file's content leads to as a :class:`FileError`."""
    try:
        yield
    except OSError as error:
        raise FileError(f"{path}: {error.strerror or error}") from error
    except (FileError, MemoryError):
        raise
    except Exception as error:  # whatever tifffile raises on any bytes
        raise FileError(f"{path}: a broken image: {shorten(error)}") from error


def _is_for_pillow(page):
    """Whether a page has unsigned integers of up to 8 bits, and all its channels are known."""
    if np.max(page.bitspersample) > 8 or np.max(page.sampleformat) != 1:
        return False
    channels, extra = page.samplesperpixel, page.extrasamples
    return channels == 1 or (channels <= 4 and not extra) or (channels == 4 and 0 not in extra)


def read_page(path: pathlib.Path, page: Any) -> np.ndarray:
    """Read the pixels of a page, upright: (H, W) or (H, W, C), in native byte order."""
    _check_page(path, page)
    try:
        pixels = page.asarray()
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
        pixels = _read_by_pillow(path, page)
    pixels = np.moveaxis(pixels, 0, -1) if page.axes == "SYX" else pixels
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    if page.photometric.name == "MINISWHITE" and pixels.dtype.kind == "u":
        pixels = np.iinfo(pixels.dtype).max - pixels
    if 1 in page.extrasamples:
        pixels = _unpremultiplied(pixels)
    return _UPRIGHT.get(_orientation(page), np.asarray)(pixels)


def _orientation(page):
    found = page.tags.valueof(274, default=1)
    return found if found in _UPRIGHT else 1


def _check_page(path, page):
    """Raise for pages that are not complete, or not of grey or colour pixels."""
    ends = np.add(page.dataoffsets, page.databytecounts, dtype=object)
    if not len(ends) or max(ends) > page.parent.filehandle.size:
        raise FileError(f"{path}: image file is truncated")
    if page.imagedepth > 1 or page.photometric.name not in _COLOURS:
        raise FileError(f"{path}: expected grey or colour pixels, got {page.photometric.name} "
                        f"{page.shape} of {page.dtype}")  # fmt: skip
    if page.axes not in ("YX", "YXS", "SYX") or not page.size or page.dtype is None:
        raise FileError(f"{path}: expected an image, got {page.shape} of {page.dtype}")


def _read_by_pillow(path, page):
    """Read pixels whose compression tifffile does not know without imagecodecs.

    Pillow reads all bits of grey pixels, and of others up to 8.
    """
    from PIL import Image

    whole = page.samplesperpixel == 1 or page.dtype.itemsize == 1
    if whole and page.dtype.itemsize <= 4 and len(page.parent.pages) == 1:
        with path.open("rb") as file, Image.open(file) as picture:
            if len(picture.getbands()) == page.samplesperpixel:
                return np.array(picture).astype(page.dtype)
    raise FileError(f"{path}: to read {page.compression.name} with {page.samplesperpixel} "
                    f"channels of {page.dtype} install imagecodecs")  # fmt: skip


def _unpremultiplied(pixels):
    """Divide the colours by their alpha, the last channel."""
    colours, alpha = pixels[..., :-1].astype(float), pixels[..., -1:].astype(float)
    whole = np.iinfo(pixels.dtype).max if pixels.dtype.kind == "u" else 1.0
    with np.errstate(divide="ignore", invalid="ignore"):
        colours = np.where(alpha > 0, colours * whole / alpha, 0)
    if pixels.dtype.kind == "u":
        colours = np.rint(np.minimum(colours, whole))
    return np.concatenate([colours.astype(pixels.dtype), pixels[..., -1:]], -1)


# --- Metadata -------------------------------------------------------------------------------------


def metadata_of(page: Any) -> Metadata:
    """What is carried along from a page to an output file."""
    from PIL import Image

    per_inch = {2: 1.0, 3: 2.54}.get(page.tags.valueof(296, default=2))
    rationals = [page.tags.valueof(tag) for tag in (282, 283)]
    dpi = None
    if per_inch and all(isinstance(each, tuple) and all(each) for each in rationals):
        x, y = (per_inch * each[0] / each[1] for each in rationals)
        dpi = (x, y)
    exif = Image.Exif()
    for tag in _TEXTS:
        if isinstance(text := page.tags.valueof(tag), str) and text:
            exif[tag] = text
    exif = copy_exif(exif)
    icc = page.tags.valueof(34675)
    return Metadata(icc=bytes(icc) if icc else None, dpi=dpi, exif=exif if len(exif) else None,
                    alpha=page.extrasamples[-1:] in ((1,), (2,)))  # fmt: skip


# --- Writing --------------------------------------------------------------------------------------


def encode_tiff(path: pathlib.Path, image: np.ndarray, file: IO[bytes], metadata: Metadata
                ) -> list[str]:  # fmt: skip
    """Write an image of any numbers into an open file; returns remarks about it."""
    try:
        import tifffile
    except ImportError:
        raise FileError(f"{path}: to write {image.dtype} install tifffile") from None
    with _errors_of(path):
        tifffile.imwrite(file, image, **tiff_options(image.shape[2:], metadata))
    folders = [tag for tag in (34665, 34853) if metadata.exif is not None and tag in metadata.exif]
    return ["without EXIF's directories"] if folders else []


def tiff_options(channels: tuple[int, ...], metadata: Metadata) -> dict[str, Any]:
    """The arguments of ``tifffile.imwrite`` for images with this shape of channels."""
    count = channels[0] if channels else 1
    colours = 3 if count in (3, 4) else 1
    texts = [(tag, 2, None, str(metadata.exif[tag]), True) for tag in _TEXTS
             if metadata.exif is not None and tag in metadata.exif]  # fmt: skip
    options: dict[str, Any] = {
        "photometric": "rgb" if colours == 3 else "minisblack", "metadata": None,
        "software": False, "extratags": texts, "iccprofile": metadata.icc,
    }  # fmt: skip
    if count > 1:
        extra = count - colours
        options |= {"planarconfig": "contig",
                    "extrasamples": [2 if extra == 1 else 0] * extra or None}  # fmt: skip
    if metadata.dpi:
        options |= {"resolution": metadata.dpi, "resolutionunit": 2}
    return options


# --- Several pages --------------------------------------------------------------------------------


@dataclass(frozen=True)
class TiffStack:
    """The pages of a TIFF as one array (N, H, W) or (N, H, W, C), which is read in parts."""

    path: pathlib.Path
    shape: tuple[int, ...]
    dtype: np.dtype
    metadata: Metadata
    leading: tuple[int, ...] = ()  # the shape of all pages, as the file describes them

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __getitem__(self, images: slice) -> np.ndarray:
        """Read some of the pages.

        Raises
        ------
        FileError
            If they cannot be read.
        """
        import tifffile

        found = np.empty((len(range(*images.indices(self.shape[0]))), *self.shape[1:]), self.dtype)
        with _errors_of(self.path), tifffile.TiffFile(self.path) as tiff:
            if len(tiff.pages) == 1 < self.shape[0]:
                return _read_hyperstack(tiff, self, images)
            for page, pixels in zip(tiff.pages[images], found, strict=True):
                pixels[:] = read_page(self.path, page)
        return found


def has_pages(path: pathlib.Path) -> bool:
    """Whether a file is a TIFF with several images."""
    try:
        import tifffile

        with tifffile.TiffFile(path) as tiff:
            return len(tiff.pages) > 1 or math.prod(_leading(tiff)) > 1
    except Exception:  # no TIFF, or a broken one, which its reader will name
        return False


def open_tiff_stack(path: pathlib.Path) -> TiffStack:
    """Read the headers of a TIFF's pages.

    Raises
    ------
    FileError
        If they cannot be read, or differ in shape or dtype.
    """
    import tifffile

    with _errors_of(path), tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first
        _check_chain(path, tiff)
        if len(tiff.series) != 1 or (leading := math.prod(_leading(tiff))) < len(tiff.pages):
            shapes = {f"{series.shape} of {series.dtype}": None for series in tiff.series}
            raise FileError(f"{path}: expected pages of one size and dtype, got "
                            f"{shorten(', '.join(shapes))}")  # fmt: skip
        _check_page(path, page)
        if leading > 1 and len(tiff.pages) == 1 and tiff.series[0].dataoffset is None:
            raise FileError(f"{path}: expected {leading} pages, got one")
        height, width = page.imagelength, page.imagewidth
        sides = (width, height) if _orientation(page) > 4 else (height, width)
        channels = () if page.samplesperpixel == 1 else (page.samplesperpixel,)
        return TiffStack(path, (leading, *sides, *channels), np.dtype(page.dtype).newbyteorder("="),
                         metadata_of(page), tuple(_leading(tiff)))  # fmt: skip


def _check_chain(path, tiff):
    """Raise if the last page that was found names another."""
    tiff.filehandle.seek(tiff.pages.next_page_offset)
    if any(tiff.filehandle.read(tiff.tiff.offsetsize)):
        raise FileError(f"{path}: image file is truncated, after page {len(tiff.pages)}")


def _leading(tiff):
    """Return the shape of all pages, without that of a page."""
    series = tiff.series[0]
    return series.shape[: len(series.shape) - len(tiff.pages.first.shape)]


def _read_hyperstack(tiff, stack, images):
    """Read pages that one header describes, as ImageJ writes where a TIFF would be too large."""
    start, stop, _ = images.indices(stack.shape[0])
    size = math.prod(stack.shape[1:])
    file = tiff.filehandle
    file.seek(tiff.series[0].dataoffset + start * size * stack.dtype.itemsize)
    dtype = stack.dtype.newbyteorder(tiff.byteorder)
    numbers = np.frombuffer(file.read((stop - start) * size * dtype.itemsize), dtype)
    return numbers.reshape(stop - start, *stack.shape[1:]).astype(stack.dtype)


def create_tiff(path: pathlib.Path, shape: tuple[int, ...], dtype: Any, metadata: Metadata
                ) -> None:  # fmt: skip
    """Write a TIFF with a page for each image, whose numbers are written later."""
    import tifffile

    if np.dtype(dtype).kind == "b" or len(shape) not in (3, 4):
        raise FileError(f"{path}: expected images of numbers for .tif, got {shape} of {dtype}")
    with _errors_of(path):
        tifffile.imwrite(path, None, shape=shape, dtype=dtype, **tiff_options(shape[3:], metadata))


def pages_offset(path: pathlib.Path) -> int:
    """Return where the numbers of a TIFF of :func:`create_tiff` begin; its pages are neighbours."""
    import tifffile

    with _errors_of(path), tifffile.TiffFile(path) as tiff:
        return tiff.pages.first.dataoffsets[0]
