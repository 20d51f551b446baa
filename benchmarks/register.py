"""Compare registration with other libraries, on photographs with known warps.

Run ``python -m benchmarks.register`` in a checkout, with scikit-image for its photographs; OpenCV
and kornia are peers if they are installed. Each trial cuts two windows out of a photograph. One of
them is rotated by up to 15 degrees, scaled by 0.9 to 1.1 and moved by up to 5 % of its side. The
other has a gain and a bias, and both have noise. So both windows show the same scene, except at
their borders. Every library starts from the identity. The libraries alternate in one process, after
a warm-up. A trial is solved if the mean distance of the four corners from their true positions is
below 0.1 pixel.

A ratio is the median, over the trials that both solved, of the peer's time divided by that of
numba_stn: above 1, numba_stn is faster.
"""

import argparse
import json
import pathlib
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import numba_stn
from numba_stn.bench import clock
from numba_stn.bench.report import provenance
from numba_stn.bench.rows import MissingError, peer_module
from numba_stn.transforms.matrices import from_theta
from numba_stn.utils.atomic_write import write_atomically
from numba_stn.utils.progress import progress

PHOTOGRAPHS = ("astronaut", "brick", "camera", "chelsea", "coffee", "coins", "grass", "gravel",
               "moon", "rocket")  # fmt: skip

# The window's side, as a share of the photograph's shorter side, which leaves room for the warp.
WINDOW = 0.66

# A trial with a smaller error, in pixels, is solved.
SOLVED = 0.1

# The standard deviation of the noise, in grey levels.
NOISE = 4.0

# A peer that takes seconds per trial runs on every tenth trial of each photograph only.
EVERY_TENTH = 10

# A call that takes longer, in seconds, needs no warm-up.
LONG = 1.0


# --- Trials ---------------------------------------------------------------------------------------


class Trial(NamedTuple):
    """Two uint8 images, and the true matrix from the fixed one's pixels to the moving one's."""

    photograph: str
    moving: np.ndarray
    fixed: np.ndarray
    matrix: np.ndarray


def photograph(name: str) -> np.ndarray:
    """Load a photograph of scikit-image, converted to grey and float32."""
    image = np.float32(getattr(peer_module("skimage.data"), name)())
    return image if image.ndim == 2 else np.ascontiguousarray(image @ np.float32([0.3, 0.59, 0.11]))


def draw(name: str, seed: int) -> Trial:
    """Draw a random trial of a photograph."""
    rng, image = np.random.default_rng([seed, PHOTOGRAPHS.index(name)]), photograph(name)
    side = int(WINDOW * min(image.shape))
    angle, zoom = np.deg2rad(rng.uniform(-15, 15)), rng.uniform(0.9, 1.1)
    center, corner = (side - 1) / 2, (np.array(image.shape[::-1]) - side) // 2
    linear = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = np.eye(3)
    matrix[:2, :2] = linear
    matrix[:2, 2] = center + rng.uniform(-0.05, 0.05, 2) * side - linear @ [center, center]
    window = np.eye(3)
    window[:2, 2] = corner
    moving = image[corner[1] :, corner[0] :][:side, :side]
    fixed = numba_stn.warp_image(
        image, (window @ matrix)[:2], (side, side), mode="bicubic", padding_mode="reflection"
    )
    moving = rng.uniform(0.8, 1.2) * moving + rng.uniform(-20, 20)
    return Trial(name, _noisy(moving, rng), _noisy(fixed, rng), matrix)


def _noisy(image, rng):
    return np.clip(np.rint(image + rng.normal(0, NOISE, image.shape)), 0, 255).astype(np.uint8)


def corner_error(found: np.ndarray, trial: Trial) -> float:
    """Mean distance, in pixels, of the fixed image's corners from their true positions."""
    x, y = (axis.ravel() for axis in np.meshgrid([0, trial.fixed.shape[1] - 1],
                                                 [0, trial.fixed.shape[0] - 1]))  # fmt: skip
    corners = np.stack([x, y, np.ones(4)])
    one, two = (matrix @ corners for matrix in (found, trial.matrix))
    return float(np.linalg.norm(one[:2] / one[2] - two[:2] / two[2], axis=0).mean())


# --- Libraries ------------------------------------------------------------------------------------

# A function of the moving and the fixed image. It returns the matrix, or None if the library
# reports a failure.
Register = Callable[[np.ndarray, np.ndarray], Any]


def stn_register(transform: str) -> Register:
    """``register`` of numba_stn."""

    def run(moving, fixed):
        result = numba_stn.register(moving, fixed, transform)
        return _square(result.matrix) if result.report.converged else None

    return run


def cv2_ecc() -> Register:
    """OpenCV's findTransformECC with its default criteria."""
    cv2 = peer_module("cv2")

    def run(moving, fixed):
        try:
            _, matrix = cv2.findTransformECC(fixed, moving, np.eye(2, 3, dtype=np.float32),
                                             cv2.MOTION_AFFINE)  # fmt: skip
        except cv2.error:
            return None
        return _square(matrix)

    return run


def cv2_ecc_to_convergence() -> Register:
    """OpenCV's findTransformECC with up to 500 iterations and a threshold of 1e-7."""
    cv2 = peer_module("cv2")
    criteria = cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 500, 1e-7

    def run(moving, fixed):
        try:
            _, matrix = cv2.findTransformECC(fixed, moving, np.eye(2, 3, dtype=np.float32),
                                             cv2.MOTION_AFFINE, criteria, None, 5)  # fmt: skip
        except cv2.error:
            return None
        return _square(matrix)

    return run


def cv2_ecc_pyramid() -> Register:
    """OpenCV's findTransformECCMultiScale, which is new in version 5."""
    cv2 = peer_module("cv2")
    if not hasattr(cv2, "findTransformECCMultiScale"):
        raise MissingError("this OpenCV has no findTransformECCMultiScale")

    def run(moving, fixed):
        settings = cv2.ECCParameters()
        settings.motionType = cv2.MOTION_AFFINE
        try:
            _, matrix = cv2.findTransformECCMultiScale(
                fixed, moving, np.eye(2, 3, dtype=np.float32), settings
            )
        except cv2.error:
            return None
        return _square(matrix)

    return run


def kornia_registrator() -> Register:
    """Kornia's ImageRegistrator for a similarity, with its defaults, on standardised images."""
    torch, geometry = peer_module("torch"), peer_module("kornia.geometry.transform")
    registrator = geometry.ImageRegistrator("similarity")

    def tensor(image):
        image = np.float32(image)
        return torch.tensor((image - image.mean()) / image.std())[None, None]

    def run(moving, fixed):
        theta = registrator.register(tensor(moving), tensor(fixed)).detach().numpy()[0]
        return _square(from_theta(theta, fixed.shape, moving.shape, align_corners=True))

    return run


def _square(matrix):
    return np.vstack([matrix, [0, 0, 1]]) if len(matrix) == 2 else np.asarray(matrix)


# Each library, and the distance between its trials: 1 for all of them.
LIBRARIES: dict[str, tuple[Callable[[], Register], int]] = {
    "ours": (lambda: stn_register("affine"), 1),
    "ours, similarity": (lambda: stn_register("similarity"), 1),
    "cv2.findTransformECC": (cv2_ecc, 1),
    "cv2.findTransformECC, to the end": (cv2_ecc_to_convergence, 1),
    "cv2.findTransformECCMultiScale": (cv2_ecc_pyramid, 1),
    "kornia.ImageRegistrator": (kornia_registrator, EVERY_TENTH),
}


# --- The comparison -------------------------------------------------------------------------------


def compare(count: int, output: Callable[[str], None] = print) -> dict[str, Any]:
    """Run this number of trials, cycling through the photographs; output and return the results."""
    libraries = _libraries()
    trials: list[dict[str, Any]] = []
    for k in progress(range(count), lambda k: PHOTOGRAPHS[k % len(PHOTOGRAPHS)]):
        cycle, photograph = divmod(k, len(PHOTOGRAPHS))
        trial = draw(PHOTOGRAPHS[photograph], cycle)
        found = {who: _measure(run, trial) for who, (run, every) in libraries.items()
                 if cycle % every == 0}  # fmt: skip
        trials.append({"photograph": trial.photograph, "side": len(trial.fixed), "found": found})
    summary = {who: _summary(who, trials) for who in libraries}
    for who, row in summary.items():
        output(f"{who:34s} {row}")
    return {"summary": summary, "trials": trials}


def _libraries():
    """Prepare the libraries that are installed."""
    found = {}
    for who, (make, every) in LIBRARIES.items():
        try:
            found[who] = make(), every
        except MissingError:
            continue
    return found


def _measure(run, trial):
    """Measure milliseconds and the corners' error, which is None if the library reports a failure.

    After a pause, in which the other libraries' threads fall asleep, a first call is a warm-up,
    unless it takes long.
    """
    time.sleep(clock.PAUSE)
    for _ in range(2):
        began = time.perf_counter()
        found = run(trial.moving, trial.fixed)
        taken = time.perf_counter() - began
        if taken > LONG:
            break
    error = None if found is None else corner_error(found, trial)
    if error is not None and not np.isfinite(error):
        error = None
    return {"ms": round(1e3 * taken, 3), "error": error and float(f"{error:.3g}")}


def _summary(who, trials):
    """Count the trials, and compute medians and the ratio over the trials that both solved."""
    found = [trial["found"][who] for trial in trials if who in trial["found"]]
    errors = [each["error"] for each in found if each["error"] is not None]
    solved = [each["error"] for each in found if _solved(each)]
    pairs = [trial["found"] for trial in trials if who in trial["found"]]
    both = [pair for pair in pairs if _solved(pair[who]) and _solved(pair["ours"])]
    return {
        "trials": len(found),
        "solved": len(solved),
        "failures_reported": len(found) - len(errors),
        "errors_above_1": sum(error > 1 for error in errors),
        "median_error": statistics.median(solved) if solved else None,
        "median_ms": statistics.median(each["ms"] for each in found) if found else None,
        "solved_by_both": len(both),
        "ratio": (round(statistics.median(p[who]["ms"] / p["ours"]["ms"] for p in both), 2)
                  if both else None),
    }  # fmt: skip


def _solved(found):
    return found["error"] is not None and found["error"] < SOLVED


def main(argv=None):
    """Run the comparison and return the exit code."""
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument(
        "--trials", type=int, default=200, help="number of trials; default: %(default)s"
    )
    arguments.add_argument("--json", type=pathlib.Path, help="write the results to this file")
    args = arguments.parse_args(argv)
    command = ["python", "-m", "benchmarks.register", *(argv or sys.argv[1:])]
    about = provenance(command, 1)
    found = compare(args.trials)
    if args.json:
        write_atomically(args.json, (json.dumps(about | found, indent=1) + "\n").encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
