"""Single images (H, W) or (H, W, C): warp, rotate, resize, crop; and image files.

Begin with :mod:`.warp_image`; the other operations are matrices for it. :mod:`.canvas` plans what
the command line does to a whole image.
"""
