"""Try the verdict of registration: on pairs with known maps under difficulties, and on strangers.

Run ``python -m benchmarks.register_verdicts`` in a checkout, with scikit-image for its photographs.
The pairs with a known map have masks with holes, dead pixels, black rims, objects that move by
themselves, other resolutions, or little content. The pairs of strangers show different things. A
verdict is right if ``converged`` is true and the map is right, or if it is false and the map is
wrong, or there is none. The command prints the wrong verdicts, and counts the right ones.

``--half tune`` takes the photographs on which the thresholds were chosen, ``--half check`` others.
"""

import argparse
import gzip
import itertools
import os
import pathlib
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

import numba_stn

# The photographs on which the thresholds were chosen, and those on which they were checked.
HALVES = {
    "tune": ("astronaut", "camera", "coins", "grass", "moon", "text", "cell", "hubble_deep_field",
             "immunohistochemistry", "rocket"),
    "check": ("brick", "chelsea", "coffee", "gravel", "page", "retina", "clock", "logo",
              "microaneurysms", "shepp_logan_phantom"),
}  # fmt: skip

# The side of a window, and the noise in grey levels.
SIDE, NOISE = 160, 2.0

# A map is right if the mean error of the corners is below this number of pixels of the image with
# the lower resolution; or below the second number where the content is far from the corners.
RIGHT, RIGHT_FAR = 0.5, 1.5


class Case(NamedTuple):
    """A pair of images, and its true matrix; None for strangers."""

    name: str
    moving: np.ndarray
    fixed: np.ndarray
    matrix: np.ndarray | None
    options: dict[str, Any]


def photograph(name: str) -> np.ndarray:
    """A photograph in grey, of float32, with a shorter side between 200 and 512 pixels."""
    import skimage.data

    image = np.float32(getattr(skimage.data, name)())
    if image.ndim == 3:
        image = image[..., :3] @ np.float32([0.3, 0.59, 0.11])
    if image.max() <= 1:
        image = image * 255
    while min(image.shape) > 512:
        image = numba_stn.resize(image, (image.shape[0] // 2, image.shape[1] // 2))
    factor = 240 / min(image.shape)
    if factor > 1:
        sides = tuple(int(factor * side) for side in image.shape)
        image = numba_stn.resize(image, sides, mode="bicubic")
    return np.ascontiguousarray(image)


def similarity(rng, side: int, shift: float = 0.04) -> np.ndarray:
    """A random map: up to 8 degrees, a zoom of 0.95 to 1.05, and a shift."""
    angle, zoom = np.deg2rad(rng.uniform(-8, 8)), rng.uniform(0.95, 1.05)
    linear = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return about_center(linear, rng.uniform(-shift, shift, 2) * side, side)


def about_center(linear, offset, side):
    """A linear map about the centre of a square image, and a shift."""
    matrix, center = np.eye(3), (side - 1) / 2
    matrix[:2, :2] = linear
    matrix[:2, 2] = center + offset - np.asarray(linear) @ [center, center]
    return matrix


def window(image, rng, side=SIDE):
    """The matrix from a window's pixels to a photograph's, at a random position."""
    matrix = np.eye(3)
    margin = 0.1 * side
    for axis in (0, 1):
        room = image.shape[1 - axis] - side - 2 * margin
        matrix[axis, 2] = round(
            (image.shape[1 - axis] - side) / 2 + (rng.uniform(-0.5, 0.5) * room if room > 0 else 0)
        )
    return matrix


def cut(image, matrix, sides, **options):
    """Sample a photograph."""
    options = {"mode": "bicubic", "padding_mode": "reflection"} | options
    return numba_stn.warp_image(image, matrix[:2], sides, **options)


def noisy(image, rng, noise=NOISE):
    """Add noise and round to uint8."""
    return np.clip(np.rint(image + rng.normal(0, noise, image.shape)), 0, 255).astype(np.uint8)


def pair(image, rng, side=SIDE):
    """Two windows of a photograph, and the map between them."""
    matrix, at = similarity(rng, side), window(image, rng, side)
    moving = cut(image, at, (side, side))
    fixed = cut(image, at @ matrix, (side, side))
    return noisy(0.9 * moving + 10, rng), noisy(fixed, rng), matrix


def discs(rng, side, radius, count):
    """A mask with holes: discs."""
    y, x = np.mgrid[:side, :side]
    mask = np.ones((side, side), bool)
    for cx, cy in rng.uniform(0, side, (count, 2)):
        mask &= (x - cx) ** 2 + (y - cy) ** 2 > radius**2
    return mask


# --- Pairs with known maps ------------------------------------------------------------------------


def known(name: str, image: np.ndarray, rng) -> Iterator[Case]:
    """Difficulties with a photograph."""
    moving, fixed, matrix = pair(image, rng)
    yield Case(f"{name} plain", moving, fixed, matrix, {})
    yield from masked(name, moving, fixed, matrix, rng)
    yield from moved(name, image, moving, fixed, matrix, rng)
    yield from rims(name, image, rng)
    yield from resolutions(name, image, rng)
    swapped = {"moving": moving.astype(">u2") * 257, "fixed": fixed.astype(">f4")}
    yield Case(f"{name} big-endian", *swapped.values(), matrix, {})
    yield from peers(name, image, rng)


def masked(name, moving, fixed, matrix, rng):
    """Masks of either image, with garbage beneath."""
    side = len(fixed)
    rows = np.arange(side)[:, None] + np.zeros((1, side), int)
    masks = {
        "2 % holes": rng.random((side, side)) > 0.02,
        "10 % holes": rng.random((side, side)) > 0.1,
        "30 % holes": rng.random((side, side)) > 0.3,
        "discs 3": discs(rng, side, 3, 60),
        "discs 7": discs(rng, side, 7, 25),
        "discs 14": discs(rng, side, 14, 8),
        "stripes 2 of 8": rows % 8 > 1,
        "stripes 4 of 8": rows % 8 > 3,
        "stripes 10 of 20": rows % 20 > 9,
        "a disc": np.hypot(rows - side / 2, rows.T - side / 2) < 50,
    }
    for what, mask in masks.items():
        garbage = rng.choice([0, 255], fixed.shape).astype(np.uint8)
        options = {"mask": mask}
        yield Case(f"{name} mask {what}", moving, fixed, matrix, options)
        yield Case(f"{name} mask {what}, garbage", moving, np.where(mask, fixed, garbage), matrix,
                   options)  # fmt: skip
        yield Case(f"{name} moving mask {what}, garbage", np.where(mask, moving, garbage), fixed,
                   matrix, {"moving_mask": mask})  # fmt: skip
    mask = masks["2 % holes"] & masks["discs 14"]
    nan = np.where(mask, fixed, np.nan)
    yield Case(f"{name} NaN under a mask", moving, nan, matrix, {"mask": mask})
    both = {"mask": mask, "moving_mask": masks["discs 7"]}
    nan_moving = np.where(both["moving_mask"], moving, np.nan)
    yield Case(f"{name} NaN under both masks", nan_moving, nan, matrix, both)
    dead = rng.random((side, side)) < 0.005
    values = rng.choice([0, 255], fixed.shape).astype(np.uint8)
    yield Case(f"{name} dead pixels in both", np.where(dead, values, moving),
               np.where(dead, values, fixed), matrix, {})  # fmt: skip


def moved(name, image, moving, fixed, matrix, rng):
    """Something in front moves by itself."""
    side = len(fixed)
    for what, box, shift in (
        ("band", np.s_[:, 37:87], 6),
        ("block", np.s_[50:110, 50:110], 5),
        ("large block", np.s_[20:110, 20:110], 4),
        ("small block", np.s_[60:90, 70:100], 8),
    ):
        other = fixed.copy()
        other[box] = np.roll(fixed, -shift, axis=1)[box]
        yield Case(f"{name} moved {what}", moving, other, matrix, {})
        mask = np.ones((side, side), bool)
        mask[box] = False
        yield Case(f"{name} moved {what}, masked", moving, other, matrix, {"mask": mask})
        yield Case(f"{name} moved {what}, moving mask", other, moving, np.linalg.inv(matrix),
                   {"moving_mask": mask})  # fmt: skip
    pasted = fixed.copy()
    pasted[40:100, 60:130] = rng.integers(0, 255, (60, 70), dtype=np.uint8)
    yield Case(f"{name} pasted noise", moving, pasted, matrix, {})


def rims(name, image, rng):
    """Black rims that a warp left."""
    matrix, at = similarity(rng, SIDE), window(image, rng)
    moving = cut(image, at, (SIDE, SIDE))
    for padding in ("zeros", "border"):
        fixed = cut(moving, matrix, (SIDE, SIDE), mode="bilinear", padding_mode=padding)
        yield Case(
            f"{name} rim in fixed, {padding}",
            noisy(moving, rng, 0),
            noisy(fixed, rng, 0),
            matrix,
            {},
        )
        yield Case(
            f"{name} rim in moving, {padding}",
            noisy(fixed, rng, 0),
            noisy(moving, rng, 0),
            np.linalg.inv(matrix),
            {},
        )
    half = similarity(rng, SIDE)
    one = cut(moving, half, (SIDE, SIDE), mode="bilinear", padding_mode="zeros")
    two = cut(moving, matrix, (SIDE, SIDE), mode="bilinear", padding_mode="zeros")
    yield Case(f"{name} rims in both", noisy(one, rng, 0), noisy(two, rng, 0),
               np.linalg.inv(half) @ matrix, {})  # fmt: skip


def resolutions(name, image, rng):
    """Another resolution of either image."""
    at, side = window(image, rng), SIDE
    for factor in (1.5, 2, 3):
        small = int(side / factor)
        matrix = similarity(rng, side)
        large = cut(image, at, (side, side))
        # Areas of the small image's pixels, so that it is not aliased.
        n = 4
        fine = np.diag([factor / n, factor / n, 1.0])
        fine[:2, 2] = (factor - 1) / 2 - factor * (n - 1) / 2 / n
        view = cut(image, at @ matrix @ fine, (small * n, small * n))
        view = view.reshape(small, n, small, n).mean((1, 3))
        to_large = np.diag([factor, factor, 1.0])
        to_large[:2, 2] = (factor - 1) / 2
        truth = matrix @ to_large
        one, two = noisy(large, rng), noisy(view, rng)
        yield Case(f"{name} moving x {factor}", one, two, truth, {})
        yield Case(f"{name} moving x {factor}, start", one, two, truth, {"start": truth[:2]})
        back = np.linalg.inv(truth)
        yield Case(f"{name} fixed x {factor}", two, one, back, {})
        yield Case(f"{name} fixed x {factor}, start", two, one, back, {"start": back[:2]})


def peers(name, image, rng):
    """OpenCV's own test of a mask: a third of the moving image is black, and masked out."""
    source = noisy(numba_stn.resize(image, (216, 216)), rng, 0)
    matrix = np.eye(3)
    matrix[:2] += rng.uniform(-0.03, 0.03, (2, 3))
    matrix[:2, 2] = rng.uniform(10, 20, 2)
    for transform in ("translation", "affine", "projective"):
        truth = matrix.copy()
        if transform == "translation":
            truth[:2, :2] = np.eye(2)
        if transform == "projective":
            truth[2, :2] = rng.uniform(1e-4, 3e-4, 2)
        rows = 3 if transform == "projective" else 2
        fixed = numba_stn.warp_image(source, truth[:rows], (200, 200))
        blank, mask = source.copy(), np.ones((216, 216), bool)
        blank[144:, 144:], mask[144:, 144:] = 0, False
        options = {"transform": transform}
        yield Case(f"{name} OpenCV {transform}", source, fixed, truth, options)
        yield Case(f"{name} OpenCV {transform}, mask", blank, fixed, truth,
                   options | {"moving_mask": mask})  # fmt: skip


def sparse(rng) -> Iterator[Case]:
    """Images with little in them: cells, stars, lines, digits."""
    for seed in range(6):
        matrix = similarity(rng, SIDE)
        for what, draw in DRAWN.items():
            image = np.float32(draw(np.random.default_rng(seed), 240))
            at = window(image, np.random.default_rng(0))
            at[:2, 2] = 40
            one = cut(image, at, (SIDE, SIDE), mode="bilinear")
            two = cut(image, at @ matrix, (SIDE, SIDE), mode="bilinear")
            if what.startswith("binary"):
                one, two = (255.0 * (each > 127) for each in (one, two))
            yield Case(f"{what} {seed}", noisy(one, rng, 0), noisy(two, rng, 0), matrix,
                       {"transform": "similarity"})  # fmt: skip


def cells(rng, side, count=2):
    """Bright ellipses on black."""
    y, x = np.mgrid[:side, :side]
    image = np.zeros((side, side))
    for k in range(count):
        cx, cy = side * (
            0.5
            + 0.22
            * np.array([np.cos(3.1 * k + rng.uniform(0, 1)), np.sin(3.1 * k + rng.uniform(0, 1))])
        )
        a, b, t = rng.uniform(12, 30), rng.uniform(8, 18), rng.uniform(0, 3)
        u, v = (
            (x - cx) * np.cos(t) + (y - cy) * np.sin(t),
            (y - cy) * np.cos(t) - (x - cx) * np.sin(t),
        )
        image[(u / a) ** 2 + (v / b) ** 2 < 1] = 255
    return image


def stars(rng, side):
    """Points of light."""
    image = np.zeros((side, side))
    y, x = np.mgrid[:side, :side]
    for cx, cy in rng.uniform(0, side, (60, 2)):
        image += rng.uniform(50, 255) * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 3)
    return image.clip(0, 255)


def lines(rng, side):
    """A drawing of thin lines."""
    image = np.full((side, side), 255.0)
    y, x = np.mgrid[:side, :side]
    for _ in range(8):
        a, b = rng.uniform(0, 3.14), rng.uniform(-60, 60)
        d = np.abs((x - side / 2) * np.cos(a) + (y - side / 2) * np.sin(a) - b)
        image -= 200 * np.exp(-(d**2) / 2)
    return image.clip(0, 255)


DRAWN = {
    "binary two cells": cells,
    "binary one cell": lambda rng, side: cells(rng, side, 1),
    "binary five cells": lambda rng, side: cells(rng, side, 5),
    "stars": stars,
    "lines": lines,
}


def digits() -> Iterator[Case]:
    """MNIST's digits: each with itself, moved, and with others."""
    images = mnist()
    if images is None:
        return
    rng = np.random.default_rng(5)
    for k in range(12):
        one = images[k]
        large = numba_stn.resize(np.float32(one), (56, 56), mode="bicubic")
        matrix = similarity(rng, 56)
        moved = noisy(cut(large, matrix, (56, 56), padding_mode="zeros"), rng, 0)
        large = noisy(large, rng, 0)
        yield Case(f"digit {k}", large, moved, matrix, {"transform": "similarity"})
        for other in range(k + 1, 12):
            yield Case(f"digits {k} {other}", one, images[other], None, {})


def mnist():
    """The first test digits; None without the data."""
    folder = pathlib.Path(os.environ.get("NUMBA_STN_DATA", "data"))
    path = folder / "mnist" / "t10k-images-idx3-ubyte.gz"
    if not path.exists():
        return None
    return np.frombuffer(gzip.open(path).read(16 + 40 * 784), np.uint8, offset=16).reshape(
        -1, 28, 28
    )


# --- Strangers ------------------------------------------------------------------------------------


def strangers(names) -> Iterator[Case]:
    """Pairs of photographs, of drawings, and of noise."""
    rng = np.random.default_rng(7)
    windows = {}
    for name in names:
        image = photograph(name)
        windows[name] = noisy(cut(image, window(image, rng), (SIDE, SIDE)), rng)
    for k, (one, two) in enumerate(itertools.permutations(names, 2)):
        for transform in ("affine", ("similarity", "projective", "tps")[k % 3]):
            yield Case(f"{one} and {two} {transform}", windows[one], windows[two], None,
                       {"transform": transform})  # fmt: skip
    for what, draw in DRAWN.items():
        drawn = [noisy(draw(np.random.default_rng(seed), SIDE), rng, 0) for seed in range(20, 25)]
        for (i, one), (j, two) in itertools.combinations(enumerate(drawn), 2):
            for transform in ("rigid", "affine"):
                yield Case(f"other {what} {i} {j} {transform}", one, two, None,
                           {"transform": transform})  # fmt: skip


# --- The run --------------------------------------------------------------------------------------


def corner_error(found, case):
    """Mean distance of the corners from their true positions, in pixels of the moving image."""
    if found is None or case.matrix is None:
        return np.nan
    (h, w), square = case.fixed.shape[:2], np.eye(3)
    square[: len(found)] = found
    corners = np.array([[0, 0, 1], [w - 1, 0, 1], [0, h - 1, 1], [w - 1, h - 1, 1.0]]).T
    one, two = square @ corners, case.matrix @ corners
    return float(np.linalg.norm(one[:2] / one[2] - two[:2] / two[2], axis=0).mean())


def limit(case):
    """The largest error of a right map."""
    far = any(word in case.name for word in (*DRAWN, "digit", "a disc"))
    zoom = max(1.0, abs(np.linalg.det(case.matrix)) ** 0.5)
    return (RIGHT_FAR if far else RIGHT) * zoom


def cases(half: str) -> Iterator[Case]:
    """All cases of one half of the photographs."""
    rng = np.random.default_rng(list(HALVES).index(half))
    for name in HALVES[half]:
        yield from known(name, photograph(name), rng)
    yield from sparse(rng)
    yield from digits()
    yield from strangers(HALVES[half])


def main(argv=None):
    """Run all cases, and print those with a wrong verdict."""
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--half", choices=HALVES, default="tune")
    arguments.add_argument("--only", default="", help="only cases whose name contains this")
    arguments.add_argument("--all", action="store_true", help="print all cases")
    args = arguments.parse_args(argv)
    right = {"known": [], "strangers": []}
    for case in cases(args.half):
        if args.only not in case.name:
            continue
        result = numba_stn.register(case.moving, case.fixed, **case.options)
        error, report = corner_error(result.matrix, case), result.report
        good = case.matrix is not None and error < limit(case)
        kind = "strangers" if case.matrix is None else "known"
        right[kind].append((report.converged == good, report.converged))
        if args.all or report.converged != good:
            print(f"{case.name:45s} {error:7.3f} {report.converged!s:5s} {report.details:5.2f} "
                  f"{report.parts:5.2f} {report.reason}", flush=True)  # fmt: skip
    for kind, found in right.items():
        print(f"{kind}: {sum(r for r, _ in found)} of {len(found)} verdicts are right; "
              f"{sum(c for _, c in found)} converged")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
