"""
Warp a photograph
=================

This page rotates a photograph, crops a part of it, and rectifies a tilted quadrilateral. Each of
these operations is a matrix from output pixels to input pixels, and takes one call. (The
photograph is by danielbuechele, CC BY 2.0; it comes with scikit-learn.)
"""

from matplotlib import pyplot as plt
from sklearn.datasets import load_sample_image

import numba_stn as stn

photo = load_sample_image("china.jpg")  # (427, 640, 3), uint8

# %%
# Angles are in degrees, counter-clockwise. ``expand`` enlarges the canvas so that nothing is lost.
rotated = stn.rotate(photo, 20)
whole = stn.rotate(photo, 20, expand=True, fill=(255, 255, 255))

# %%
# A box (x0, y0, x1, y1) means ``photo[y0:y1, x0:x1]``, and may have fractions.
tower = stn.crop_and_resize(photo, (120.5, 25, 300.5, 145), (220, 330), mode="bicubic")

# %%
# Four points of the photograph become the corners of the result: a projective map.
corners = [[0.0, 0], [329, 0], [329, 219], [0, 219]]
seen = [[170.0, 170], [470, 170], [560, 330], [70, 330]]
ground = stn.warp_image(photo, stn.matrices.from_points(corners, seen), (220, 330))

# %%
# You can also write the matrix yourself. This one mirrors the photograph left to right.
mirrored = stn.warp_image(photo, [[-1, 0, 639], [0, 1, 0]])

shown = {
    "the photograph": photo,
    "rotate(photo, 20)": rotated,
    "rotate(..., expand=True)": whole,
    "crop_and_resize": tower,
    "warp_image, four points": ground,
    "warp_image, a mirror": mirrored,
}
figure, axes = plt.subplots(2, 3, figsize=(9, 4.6), layout="constrained")
for axis, (title, image) in zip(axes.flat, shown.items(), strict=True):
    axis.imshow(image)
    axis.set_title(title)
    axis.axis("off")
axes[0, 0].plot(*zip(*seen, seen[0], strict=True), color="C1", lw=2)
