"""Single images (H, W) or (H, W, C): warp, rotate, resize, crop; and image files.

Begin with :mod:`.warp_image`; the other operations compute matrices for it. :mod:`.canvas` computes
the matrices of the command line, and the size of their canvas.
"""
