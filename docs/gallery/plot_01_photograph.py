"""
Warp a photograph
=================

Turn it, cut a piece out of it, look at it through a tilted frame. Each of these is a matrix from
output pixels to input pixels, and one call. (The photograph is danielbuechele's, CC BY 2.0; it
comes with scikit-learn.)
"""

from matplotlib import pyplot as plt
from sklearn.datasets import load_sample_image

import numba_stn as stn

photo = load_sample_image("china.jpg")  # (427, 640, 3), uint8

# %%
# Degrees count counter-clockwise. With ``expand`` the canvas grows so that nothing is lost.
turned = stn.rotate(photo, 20)
whole = stn.rotate(photo, 20, expand=True, fill=(255, 255, 255))

# %%
# A box is (x0, y0, x1, y1), as in ``photo[y0:y1, x0:x1]``, and may have fractions.
tower = stn.crop_and_resize(photo, (120.5, 25, 300.5, 145), (220, 330), mode="bicubic")

# %%
# Four points of the photograph become the corners of the result: a projective map.
corners = [[0.0, 0], [329, 0], [329, 219], [0, 219]]
seen = [[170.0, 170], [470, 170], [560, 330], [70, 330]]
ground = stn.warp_image(photo, stn.matrices.from_points(corners, seen), (220, 330))

# %%
# And a matrix of your own: what is right of the middle is mirrored onto the left.
mirrored = stn.warp_image(photo, [[-1, 0, 639], [0, 1, 0]])

shown = {
    "the photograph": photo,
    "rotate(photo, 20)": turned,
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
