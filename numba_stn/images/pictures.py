"""Image files that Pillow reads and writes. Pillow is imported when needed."""

import contextlib
import logging
import pathlib
import threading
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import IO, Any

import numpy as np

from .file_error import FileError, shorten
from .metadata import Metadata, exif_of
from .pnm import open_image

# Pillow's modes that are read, and the mode, an array of pixels, that each is converted to.
MODES = {"L": "L", "LA": "LA", "RGB": "RGB", "RGBA": "RGBA", "I;16": "I;16", "I;16B": "I;16B",
         "I;16L": "I;16L", "I": "I", "F": "F", "1": "L", "PA": "RGBA", "CMYK": "RGB",
         "YCbCr": "RGB", "HSV": "RGB", "LAB": "RGB"}  # fmt: skip
# Those whose colours are others after the conversion: a profile is no longer theirs.
_CONVERTED = ("CMYK", "YCbCr", "HSV", "LAB")

# The metadata that Pillow writes in each format.
STORED = {"PNG": ("icc_profile", "dpi", "exif"), "JPEG": ("icc_profile", "dpi", "exif"),
          "TIFF": ("icc_profile", "dpi", "exif"), "WEBP": ("icc_profile", "exif"),
          "BMP": ("dpi",)}  # fmt: skip
_LOSSY = ("JPEG", "WEBP")
QUALITY = 95  # of an output in a lossy format, if the input has none

# Pixels of an image at most, unless it is said that it is large: twice Pillow's MAX_IMAGE_PIXELS.
MOST_PIXELS = 178_956_970

# Pillow logs some errors that it also raises; without a handler they would be printed.
logging.getLogger("PIL").addHandler(logging.NullHandler())

_limit_lock = threading.Lock()


def check_pixels(path: pathlib.Path, width: int, height: int, allow_large: bool) -> None:
    """Raise if a file claims more pixels than are read without being asked for."""
    if width * height > MOST_PIXELS and not allow_large:
        raise FileError(f"{path}: {width} x {height} pixels exceed the limit of {MOST_PIXELS}; "
                        f"--allow-large (allow_large=True) reads them")  # fmt: skip


# --- Reading --------------------------------------------------------------------------------------


def read_picture(path: pathlib.Path, allow_large: bool = False) -> tuple[np.ndarray, Metadata]:
    """Read the image in a file, upright and without a palette, and its metadata."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    with warnings.catch_warnings(), _no_limit():
        warnings.simplefilter("ignore")  # of Pillow: a file that it reads is read completely
        try:
            # Of a named file Pillow would map the pixels, with rotated TIFF at the wrong width.
            with open_image(path) as file, Image.open(file) as picture:
                width, height = picture.size
                check_pixels(path, width, height, allow_large)
                _check_complete(path, picture)
                deep = _is_deep(picture)
                picture.load()
                upright = _convert(path, ImageOps.exif_transpose(picture))
                pixels = np.array(upright)
                metadata = replace(_metadata_of(path, picture), alpha=upright.mode[-1] == "A")
        except UnidentifiedImageError:
            raise FileError(f"{path}: no image format that Pillow knows") from None
        except (FileError, OSError, MemoryError):
            raise
        except Exception as error:  # whatever Pillow's decoders raise on broken files
            raise FileError(f"{path}: a broken image: {shorten(error)}") from error
    return (pixels.astype(np.uint16) if deep and pixels.dtype == np.int32 else pixels), metadata


@contextlib.contextmanager
def _no_limit() -> Iterator[None]:
    """Without Pillow's own limit of pixels, which is one for the whole process."""
    from PIL import Image

    with _limit_lock:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _is_deep(picture):
    """Whether the file has 16 bits per channel."""
    return any(";16" in str(tile[3]) for tile in picture.tile)


def _check_complete(path, picture):
    """Raise an error for files that Pillow would silently read in part, or wrongly."""
    if getattr(picture, "n_frames", 1) > 1 and picture.format != "MPO":  # whose first is the image
        raise FileError(f"{path}: expected one image, got {picture.n_frames}")
    if picture.format == "TIFF":
        bits, kinds = (picture.tag_v2.get(tag, (1,)) for tag in (258, 339))
        grey = picture.mode in ("I;16", "I;16B", "F") and picture.tag_v2.get(262) == 1
        if (max(bits) > 8 or {*kinds} != {1}) and not grey:
            raise FileError(f"{path}: {max(bits)} bits per channel; to read them install tifffile, "
                            f"and imagecodecs if they are compressed")  # fmt: skip
    if not picture.mode.startswith("I") and _is_deep(picture):
        raise FileError(f"{path}: 16 bits per channel, of which Pillow reads 8 in this format; "
                        f"expected .tif or .npy")  # fmt: skip


def _convert(path, picture):
    """Return the picture in a mode whose pixels are the array's elements."""
    if "transparency" in picture.info and picture.mode in ("P", "RGB", "L", "1"):
        return picture.convert("LA" if picture.mode in ("L", "1") else "RGBA")
    if picture.mode == "P":
        return picture.convert("RGB")
    if picture.mode not in MODES:
        raise FileError(f"{path}: expected grey or colour pixels, got Pillow's mode "
                        f"{picture.mode}")  # fmt: skip
    return picture.convert(MODES[picture.mode]) if MODES[picture.mode] != picture.mode else picture


def _metadata_of(path, picture):
    """Return what is carried along to an output file."""
    info = picture.info
    dpi = info.get("dpi")
    if picture.format == "TIFF" and not (picture.tag_v2.get(282) and picture.tag_v2.get(296) != 1):
        dpi = None  # Pillow's own
    if dpi is not None and not all(0 < float(each) < 1e6 for each in dpi):
        dpi = None
    return Metadata(
        icc=None if picture.mode in _CONVERTED else info.get("icc_profile") or None,
        dpi=None if dpi is None else (float(dpi[0]), float(dpi[1])),
        exif=exif_of(picture),
        jpeg=_jpeg_quality(picture),
        lossy=picture.format in ("JPEG", "MPO") or _is_lossy_webp(path, picture),
    )


def _jpeg_quality(picture):
    """Return Pillow's arguments that give another JPEG this one's quality, and the mode."""
    if picture.format not in ("JPEG", "MPO") or picture.mode not in ("L", "RGB"):
        return None
    from PIL import JpegImagePlugin

    found = {"mode": picture.mode, "qtables": picture.quantization}
    if picture.mode == "RGB":
        sampling = JpegImagePlugin.get_sampling(picture)
        found["subsampling"] = 0 if sampling == -1 else sampling  # 0: colours in full resolution
    return found


def _is_lossy_webp(path, picture):
    """Whether a WebP's first chunk of pixels is the lossy kind."""
    if picture.format != "WEBP":
        return False
    with path.open("rb") as file:
        file.seek(12)
        while len(head := file.read(8)) == 8:
            if head[:4] in (b"VP8 ", b"VP8L"):
                return head[:4] == b"VP8 "
            file.seek(-(-int.from_bytes(head[4:], "little") // 2) * 2, 1)
    return False


# --- Writing --------------------------------------------------------------------------------------


def can_write(image: np.ndarray) -> bool:
    """Whether Pillow writes such images, (H, W) or (H, W, C > 1), in its formats."""
    channels = image.shape[2] if image.ndim == 3 else 1
    return channels <= 4 if image.dtype == np.uint8 else image.dtype == np.uint16 and channels == 1


def encode_picture(path: pathlib.Path, image: np.ndarray, file: IO[bytes], metadata: Metadata,
                   quality: int | None = None) -> list[str]:  # fmt: skip
    """Write an image into an open file in the format of the path; returns remarks about it."""
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(image))
    format_ = Image.registered_extensions()[path.suffix.lower()]
    height, width = image.shape[:2]
    kept = _stored_metadata(metadata.resized(width, height), format_)
    options, remarks = _compression(format_, picture.mode, metadata, quality)
    try:
        try:
            picture.save(file, format_, **options, **kept)
        except Exception:  # EXIF that is too long, or damaged
            if not kept.pop("exif", None):
                raise
            file.seek(0)
            file.truncate()
            picture.save(file, format_, **options, **kept)
    except MemoryError:
        raise
    except Exception as error:  # whatever Pillow's encoders raise on what they cannot store
        raise FileError(f"{path}: {shorten(error)}") from error
    lost = [name for name, value in metadata.names().items() if not _is_among(value, name, kept)]
    return [*remarks, *([f"without {', '.join(lost)}"] if lost else [])]


def _is_among(value, name, kept):
    return "exif" in kept if name == "EXIF" else any(value is found for found in kept.values())


def _stored_metadata(metadata, format_):
    """Return Pillow's arguments for the metadata that a format stores."""
    given = {"icc_profile": metadata.icc, "dpi": metadata.dpi, "exif": metadata.exif}
    return {name: given[name] for name in STORED[format_] if given[name] is not None}


def _compression(format_, mode, metadata, quality) -> tuple[dict[str, Any], list[str]]:
    """Return Pillow's arguments for the compression, and a remark about it."""
    if format_ not in _LOSSY:
        return {}, []
    if format_ == "WEBP" and quality is None and not metadata.lossy:
        return {"lossless": True, "exact": True}, ["lossless"]
    jpeg = dict(metadata.jpeg or {}) if format_ == "JPEG" else {}
    if jpeg.pop("mode", None) != mode:
        jpeg = {}
    if quality is None and jpeg:
        return jpeg, ["quality of the input"]
    chosen = QUALITY if quality is None else quality
    options = {"quality": chosen} | ({"subsampling": jpeg.get("subsampling", 0)}
                                     if format_ == "JPEG" else {"exact": True})  # fmt: skip
    return options, [f"quality {chosen}"]
