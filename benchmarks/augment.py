"""Time ``stn.augment`` beside loops of OpenCV and albumentations.

``python -m benchmarks.augment`` augments a batch of uint8 images (N, H, W, C) in each library, in
turn: rotation, scale, shear and shift, then with a perspective. OpenCV's loop calls
``cv2.warpAffine`` or ``cv2.warpPerspective`` for each image, with the maps that ``augment`` drew,
and does not draw any. albumentations' loop calls ``A.Affine``, or this and ``A.Perspective``, for
each image; it is left out if it is not installed. The result is the median time, and the median
ratio of measurements that follow each other, so that other work on the machine affects all alike.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import cv2
import numpy as np

import numba_stn as stn

OPTIONS = {"rotate": 15.0, "scale": 0.2, "translate": 0.1, "shear": 10.0}
PERSPECTIVE = 0.1

# Seconds to wait before each measurement, in which other libraries' threads fall asleep.
PAUSE = 0.05


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.augment",
                                     description=__doc__.split("\n")[0])  # fmt: skip
    add = parser.add_argument
    add("--batch", type=int, default=64, help="default: 64")
    add("--size", type=int, default=224, help="default: 224")
    add("--threads", type=int, default=2, help="default: 2")
    add("--rounds", type=int, default=15, help="default: 15")
    args = parser.parse_args(argv)
    cv2.setNumThreads(args.threads)
    shape = (args.batch, args.size, args.size, 3)
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    print("| maps | numba_stn, ms | OpenCV | albumentations |\n| --- | --- | --- | --- |")
    for name, perspective in (("affine", 0.0), ("perspective", PERSPECTIVE)):
        runs = runners(images, perspective)
        times: dict[str, list[float]] = {who: [] for who in runs}
        for _ in range(args.rounds):
            for who, run in runs.items():
                times[who].append(seconds(run))
        ours = times.pop("numba_stn")
        cells = [f"{1e3 * statistics.median(ours):.1f}"]
        for who in ("opencv", "albumentations"):
            pairs = zip(ours, times.get(who, ()), strict=who in times)
            found = [theirs / mine for mine, theirs in pairs]
            cells.append(f"{statistics.median(found):.2f}" if found else "")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def seconds(run: Callable[[], object]) -> float:
    """Time of a call, after one that is not timed."""
    time.sleep(PAUSE)
    run()
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def runners(images: np.ndarray, perspective: float) -> dict[str, Callable[[], object]]:
    """The function of each library."""
    options = OPTIONS | {"perspective": perspective, "layout": "NHWC"}
    expected, maps = stn.augment(images, np.random.default_rng(1), **options)
    matrices, sides = maps.matrices, images.shape[2:0:-1]
    warp = cv2.warpPerspective if perspective else cv2.warpAffine
    flags = {"flags": cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, "borderMode": cv2.BORDER_REPLICATE}
    out = np.empty_like(images)

    def opencv():
        for image, matrix, target in zip(images, matrices, out, strict=True):
            warp(image, matrix, sides, dst=target, **flags)

    opencv()
    share = (np.abs(out.astype(int) - expected) > 10).mean()
    if share > 0.02:  # OpenCV rounds coordinates
        raise SystemExit(f"opencv: expected the same images, {share:.1%} of the numbers differ")
    runs = {"numba_stn": lambda: stn.augment(images, np.random.default_rng(1), **options),
            "opencv": opencv}  # fmt: skip
    try:
        import albumentations
    except ImportError:
        return runs
    steps = [albumentations.Affine(rotate=(-15, 15), scale=(1 / 1.2, 1.2), shear=(-10, 10),
                                   translate_percent=(-0.1, 0.1), p=1,
                                   border_mode=cv2.BORDER_REPLICATE)]  # fmt: skip
    if perspective:
        steps.append(albumentations.Perspective(scale=(0, perspective), p=1))
    transform = albumentations.Compose(steps)
    runs["albumentations"] = lambda: [transform(image=image)["image"] for image in images]
    return runs


if __name__ == "__main__":
    main()
