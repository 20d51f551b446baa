"""Draw the picture of docs/images.md, docs/images/photograph.jpg: ``python docs/pictures.py``."""

import pathlib

from matplotlib.figure import Figure
from skimage import data

import numba_stn as stn

FOLDER = pathlib.Path(__file__).parent / "images"


def examples(photo):
    """Yield a title and an image for each panel of the picture."""
    height, width = photo.shape[:2]
    boxes = [(130, 84, 210, 144), (280, 102, 360, 162), (207, 210, 307, 285)]  # eyes and nose
    yield f"the photograph, {width} x {height}", photo
    yield "rotate(photo, 30)", stn.rotate(photo, 30)
    yield "rotate(photo, 30, expand=True)", stn.rotate(photo, 30, expand=True)
    yield "center=(170, 114), zoom=2", stn.rotate(photo, 30, center=(170, 114), zoom=2)
    yield "resize(photo, (300, 200))", stn.resize(photo, (300, 200))
    crops = stn.crop_and_resize(photo, boxes, (300, 400))
    for box, crop in zip(boxes, crops, strict=True):
        yield f"crop_and_resize: {box}", crop


def main():
    """Write images/photograph.jpg."""
    shown = list(examples(data.chelsea()))
    figure = Figure(figsize=(10, 4.6), dpi=100, layout="constrained")
    for axes, (title, image) in zip(figure.subplots(2, 4).flat, shown, strict=True):
        axes.imshow(image)
        axes.set_title(title, fontsize=8)
        axes.axis("off")
    figure.savefig(FOLDER / "photograph.jpg", pil_kwargs={"quality": 88})


if __name__ == "__main__":
    main()
