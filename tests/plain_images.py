"""The oracle for images (H, W[, C]): warps in float64 NumPy, straight from the definitions.

Each tap outside the image is padded by itself, and a rotation is a product of complex numbers.
"""

import numpy as np


def bilinear(image, x, y, padding="zeros", fill=0):
    """Bilinear samples at (x, y), in pixels whose centres are integers."""
    planes = image.astype(float).reshape(*image.shape[:2], -1)
    x, y = np.broadcast_arrays(x, y)
    left, top = np.floor(x), np.floor(y)
    total = np.zeros((*x.shape, planes.shape[2]))
    for dy in (0, 1):
        for dx in (0, 1):
            weight = (1 - np.abs(x - left - dx)) * (1 - np.abs(y - top - dy))
            total += weight[..., None] * _tap(planes, left + dx, top + dy, padding, fill)
    return total.reshape(*x.shape, *image.shape[2:])


def nearest(image, x, y):
    """The nearest pixel, of two the even one; outside, the border's."""
    height, width = image.shape[:2]
    x, y = np.broadcast_arrays(np.rint(x).astype(int), np.rint(y).astype(int))
    return image[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)].astype(float)


def is_tied(positions, margin):
    """Whether positions are so near to a half that rounding may choose the other pixel."""
    return np.any([np.abs(c - np.floor(c) - 0.5) < margin for c in positions], axis=0)


def cubic(image, x, y, a=-0.75):
    """Cubic convolution (Keys 1981): OpenCV's and PyTorch's have a = -3/4, Keys's own -1/2."""
    planes = image.astype(float).reshape(*image.shape[:2], -1)
    x, y = np.broadcast_arrays(x, y)
    left, top = np.floor(x), np.floor(y)
    total = np.zeros((*x.shape, planes.shape[2]))
    for j in range(-1, 3):
        for i in range(-1, 3):
            weight = _keys(np.abs(x - left - i), a) * _keys(np.abs(y - top - j), a)
            total += weight[..., None] * _tap(planes, left + i, top + j, "border", 0)
    total = total.reshape(*x.shape, *image.shape[2:])
    return np.clip(total, 0, 255) if image.dtype == np.uint8 else total


def _keys(d, a):
    near = (a + 2) * d**3 - (a + 3) * d**2 + 1
    return np.where(d <= 1, near, a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a)


def _tap(planes, x, y, padding, fill):
    """Pixels at integer coordinates, inside or outside."""
    x, y = x.astype(int), y.astype(int)
    height, width = planes.shape[:2]
    outside = (x < 0) | (x >= width) | (y < 0) | (y >= height)
    if padding == "reflection":
        x, y = (np.minimum(k % (2 * n), -(k + 1) % (2 * n)) for k, n in ((x, width), (y, height)))
    found = planes[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)]
    return np.where(outside[..., None], fill, found) if padding == "zeros" else found


def pixels(shape):
    """x and y of an output's pixels."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(float)
    return x, y


def warped_positions(matrix, shape):
    """Sampling positions of a matrix."""
    x, y = pixels(shape)
    u, v, w = np.einsum("rc,c...->r...", np.vstack([matrix, [0, 0, 1]])[:3], [x, y, np.ones(shape)])
    return (u / w, v / w) if len(matrix) == 3 else (u, v)


def rotated_positions(sides, degrees, center=None, zoom=1.0, shape=None):
    """Sampling positions of a counter-clockwise rotation; with a shape, about both centres."""
    x, y = pixels(sides if shape is None else shape)
    centre = complex((sides[1] - 1) / 2, (sides[0] - 1) / 2)
    about = centre if center is None else complex(*center)
    target = about if shape is None else complex((shape[1] - 1) / 2, (shape[0] - 1) / 2)
    z = about + (x + 1j * y - target) * np.exp(1j * np.deg2rad(degrees)) / zoom
    return z.real, z.imag


def cropped_positions(box, shape):
    """Sampling positions of a box (x0, y0, x1, y1) of pixel edges, stretched over a shape."""
    x, y = pixels(shape)
    x0, y0, x1, y1 = box
    return (
        x0 + (x + 0.5) * (x1 - x0) / shape[1] - 0.5,
        y0 + (y + 0.5) * (y1 - y0) / shape[0] - 0.5,
    )


def is_inside(positions, sides, margin=0.0):
    """Whether positions are inside the image, by this margin from its border pixels."""
    x, y = positions
    height, width = sides
    inside = (x >= margin) & (x <= width - 1 - margin)
    return inside & (y >= margin) & (y <= height - 1 - margin)
