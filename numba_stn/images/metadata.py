"""What an image file says about its pixels: colour profile, resolution, EXIF, compression.

It is read with an image and written with the warped one. A :class:`Metadata` does not depend on a
format: each writer takes what its format can store, and the others' loss is reported.
"""

from dataclasses import dataclass, replace
from typing import Any

# EXIF tags that describe a photograph. All others of the first directory describe how pixels are
# stored, which TIFF does there too.
_DESCRIPTIVE = (270, 271, 272, 306, 315, 33432, 34665, 34853)
_EXIF_FOLDER, _POSITION_FOLDER, _WIDTH, _HEIGHT = 34665, 34853, 40962, 40963

# Beginnings of descriptions by which programs find planes and axes in a TIFF. After a warp they
# would be wrong.
_STRUCTURES = ("ImageJ=", "<?xml", "{")


@dataclass(frozen=True)
class Metadata:
    """What is carried along from an input file to an output file.

    Attributes
    ----------
    icc : bytes or None
        Colour profile.
    dpi : (x, y) or None
        Pixels per inch.
    exif : PIL.Image.Exif or None
        Without orientation, which has been applied to the pixels, and without a thumbnail.
    jpeg : dict or None
        Pillow's arguments that give a JPEG the quality of the input, and the mode they are for.
    lossy : bool
        Whether the input's compression has changed its pixels.
    alpha : bool
        Whether the last channel is alpha.
    """

    icc: bytes | None = None
    dpi: tuple[float, float] | None = None
    exif: Any = None
    jpeg: dict[str, Any] | None = None
    lossy: bool = False
    alpha: bool = False

    def resized(self, width: int, height: int) -> "Metadata":
        """The metadata of an image of another size."""
        if self.exif is None:
            return self
        exif = copy_exif(self.exif)
        folder = exif.get_ifd(_EXIF_FOLDER)
        for tag, side in ((_WIDTH, width), (_HEIGHT, height)):
            if tag in folder:
                folder[tag] = side
        return replace(self, exif=exif)

    def names(self) -> dict[str, Any]:
        """What there is, by its name for messages."""
        dpi = None if self.dpi is None else f"{self.dpi[0]:.4g} dpi"
        found = {"ICC profile": self.icc, dpi: self.dpi, "EXIF": self.exif}
        return {name: value for name, value in found.items() if value is not None and name}


def copy_exif(exif: Any) -> Any:
    """A copy of the descriptive tags, with the directories of the camera and of the position."""
    from PIL import Image

    copy = Image.Exif()
    for tag in _DESCRIPTIVE:
        if tag in (_EXIF_FOLDER, _POSITION_FOLDER):
            if folder := exif.get_ifd(tag):
                copy[tag] = own = copy.get_ifd(tag)  # one object: Pillow writes either
                own.update(folder)
        elif (value := exif.get(tag)) and not str(value).startswith(_STRUCTURES):
            copy[tag] = value
    return copy


def exif_of(picture: Any) -> Any:
    """The descriptive EXIF tags of a picture of Pillow's; None if it has none."""
    found = copy_exif(picture.getexif())
    return found if len(found) else None
