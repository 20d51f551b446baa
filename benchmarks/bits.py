"""Does this checkout give the same bits as another commit? ``python -m benchmarks.bits COMMIT``.

A fixed set of calls runs in two processes, one with the commit's numba_stn and one with the
checkout's. Each result becomes a digest of its dtype, shape and bytes. The exit code is 1 if any
digest differs, or if a call exists on one side only; it is 2 if nothing could be compared.

The calls cover the samples and the gradients of every public operation, in every mode, padding,
layout, dtype and number of dimensions, on small and odd shapes for the serial kernels and on
larger ones for the parallel kernels; and single images, layers, training steps, distortions and
registration. ``--save FILE`` keeps a tree's digests, ``--with FILE`` compares with kept ones.
"""

import argparse
import hashlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial

import numpy as np

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent

# (D, H, W) of images and of samples, with enough work for the parallel kernels; planes take the
# last two.
LARGE = [((20, 200, 211), (17, 189, 203))]

# The (H, W) of the images of the families below, and of their outputs.
SIDES = [((5, 7), (4, 19)), ((33, 40), (35, 64)), ((300, 290), (280, 310))]


# --- Calls ----------------------------------------------------------------------------------------


def calls() -> Iterator[tuple[str, object]]:
    """Names, and functions of nothing that return arrays."""
    import everything

    for dtype in ("float32", "float64"):
        yield from everything.samplers(dtype)
    yield from everything.kinds()
    yield from everything.kinds(everything.ALL, LARGE)
    yield from everything.derived(everything.ALL, everything.NARROW[3:5])
    yield from pictures()
    yield from batches()
    yield from maps()
    yield from everything.layers()
    yield from training()
    yield from distortions()
    yield from registrations()


def pictures():
    """``warp_image`` and its relatives: every mode, padding, dtype and number of channels."""
    import numba_stn as stn

    rng = np.random.default_rng(0)
    maps = {
        "rotation": [[0.8, -0.6, 9.3], [0.6, 0.8, -7.1]],
        "projective": [[1.1, 0.1, -3.2], [0.05, 0.9, 2.7], [1e-3, -5e-4, 1.0]],
    }
    for dtype in ("uint8", "uint16", "float32", "float64"):
        for channels in ((), (1,), (3,), (6,)):
            for sides, size in SIDES:
                image = (200 * rng.random((*sides, *channels))).astype(dtype)
                for mode in ("nearest", "bilinear", "bicubic"):
                    kind = f"{dtype} {image.shape} {mode}"
                    for padding in ("zeros", "border", "reflection", "wrap"):
                        options = {"mode": mode, "padding_mode": padding}
                        for name, matrix in maps.items():
                            yield (
                                f"warp_image {kind} {padding} {name}",
                                partial(stn.warp_image, image, np.array(matrix), size, **options),
                            )
                    box = (1.5, 0.25, sides[1] - 2, sides[0] - 0.5)
                    yield f"resize {kind}", partial(stn.resize, image, size, mode=mode)
                    yield f"rotate {kind}", partial(stn.rotate, image, 33, mode=mode)
                    yield (
                        f"crop_and_resize {kind}",
                        partial(stn.crop_and_resize, image, box, size, mode=mode),
                    )


def batches():
    """Options of batch warps that the shared calls leave out."""
    import numba_stn as stn

    rng = np.random.default_rng(1)
    for dtype in ("float32", "float64"):
        for sides, size in SIDES:
            images = rng.standard_normal((2, 3, *sides)).astype(dtype)
            theta = (np.eye(2, 3) + 0.3 * rng.standard_normal((2, 2, 3))).astype(dtype)
            center = np.array([[0.1, -0.2], [0.0, 0.3]], dtype)
            for align in (False, True):
                name = f"{dtype} {sides} {size} {align}"
                corners = {"align_corners": align}
                yield f"affine_grid {name}", partial(stn.affine_grid, theta, size, **corners)
                yield f"polar_grid {name}", partial(stn.polar_grid, center, size, sides, **corners)
                for wanted in ("images", "theta"):
                    yield (
                        f"warp_affine_vjp of {wanted} {name}",
                        partial(
                            stn.warp_affine_vjp, images, images, theta, wrt=(wanted,), **corners
                        ),
                    )
                grid = stn.affine_grid(theta, size, **corners)
                pixels = stn.pixels_from_grid(grid, sides, **corners)
                yield f"pixels_from_grid {name}", partial(lambda found: found, pixels)
                yield (
                    f"grid_from_pixels {name}",
                    partial(stn.grid_from_pixels, pixels, sides, **corners),
                )
                moved = (pixels - pixels.round()).astype(dtype)
                yield (
                    f"grid_from_displacement {name}",
                    partial(stn.grid_from_displacement, moved, sides, **corners),
                )


def maps():
    """Theta from parameters, and back."""
    from numba_stn.transforms import parametrisations

    rng = np.random.default_rng(2)
    for name in sorted(parametrisations.__all__):
        transform = getattr(parametrisations, name)
        if not isinstance(transform, parametrisations.Transform):
            continue
        params = transform.identity + 0.2 * rng.standard_normal((5, transform.size))
        dtheta = rng.standard_normal((5, *transform.shape))
        yield f"theta of {name}", partial(transform.theta, params)
        yield f"dtheta of {name}", partial(transform.vjp, dtheta, params)


def training():
    """Three steps of each optimiser, of a network with transformers and every kind of layer."""
    from numba_stn import nn

    features = nn.serial(nn.max_pool(2), nn.conv2d(4, 3), nn.relu(), nn.flatten(), nn.linear(8))
    for transform in ("affine", "attention", "projective", "tps"):
        net = nn.serial(
            nn.spatial_transformer(features, transform), nn.conv2d(6, 5), nn.batch_norm(),
            nn.relu(), nn.max_pool(2), nn.conv2d(7, 3, padding=1), nn.avg_pool(2), nn.flatten(),
            nn.dropout(0.25), nn.linear(10),
        )  # fmt: skip
        for optimiser in (nn.sgd(0.1, 0.9), nn.adam(nn.one_cycle(1e-3, 3))):
            name = f"training {transform} {type(optimiser.rule).__name__}"
            yield name, partial(_three_steps, nn, net, optimiser)


def _three_steps(nn, net, optimiser):
    rng = np.random.default_rng(3)
    shape = (2, 28, 30)
    params, state = net.init(rng, shape), net.init_state(shape)
    memory = optimiser.init(params)
    for _ in range(3):
        images = rng.standard_normal((35, *shape)).astype(np.float32)
        logits, pullback, state = net.apply(params, images, state, train=True)
        _, dlogits = nn.softmax_cross_entropy(logits, rng.integers(0, 10, 35))
        dparams, dimages = pullback(dlogits)
        params, memory = optimiser.update(params, dparams, memory)
    return params, state, logits, dimages


def distortions():
    """The paper's tasks."""
    from numba_stn import data

    rng = np.random.default_rng(4)
    split = data.Split(rng.random((70, 1, 28, 28)).astype(np.float32), rng.integers(0, 10, 70))
    for name, task in data.TASKS.items():
        yield f"task {name}", partial(_distorted, task, split)


def _distorted(task, split):
    found = task(np.random.default_rng(5), split)
    return found.images, found.labels


def registrations():
    """Registration of a smooth random image with a moved copy."""
    for transform in ("translation", "rigid", "similarity", "affine", "projective", "tps"):
        for metric in ("correlation", "intensity"):
            yield f"register {transform} {metric}", partial(_registered, transform, metric)


def _registered(transform, metric):
    import numba_stn as stn

    coarse = np.random.default_rng(6).random((12, 13)).astype(np.float32)
    fixed = stn.resize(coarse, (120, 130), mode="bicubic")
    moving = stn.rotate(fixed, 3.5, zoom=1.03, padding_mode="border")
    found = stn.register(moving, fixed, transform, metric=metric)
    return found.theta, found.aligned


# --- Digests --------------------------------------------------------------------------------------


def digest(value: object) -> str:
    """A short name for the bits of arrays, and of trees of arrays."""
    hashed = hashlib.sha256()
    for leaf in leaves(value):
        array = np.ascontiguousarray(leaf)
        hashed.update(f"{array.dtype} {array.shape}".encode())
        hashed.update(array.tobytes())
    return hashed.hexdigest()[:16]


def leaves(value: object) -> Iterator[np.ndarray]:
    """The arrays of a tree, in order; None is an empty one."""
    if isinstance(value, dict):
        for key in sorted(value):
            yield from leaves(value[key])
    elif isinstance(value, tuple | list):
        for item in value:
            yield from leaves(item)
    elif value is not None:
        yield np.asarray(value)


def print_digests(tree: str, word: str) -> None:
    """Print the digest of each call whose name contains ``word``, with the tree's numba_stn."""
    sys.path[:0] = [tree, str(ROOT / "tests")]
    import numba_stn

    found = pathlib.Path(numba_stn.__file__).parents[1]
    if found != pathlib.Path(tree).resolve():
        raise ImportError(f"numba_stn: expected the one in {tree}, got {found}")
    with np.errstate(all="ignore"):
        for name, call in calls():
            if word in name:
                try:
                    result = digest(call())
                except Exception as error:  # this tree refuses it
                    result = f"{type(error).__name__}: {error}"
                print(json.dumps([name, result]), flush=True)


def digests(tree: str, word: str) -> dict[str, str]:
    """The digests of a tree, from a process of its own."""
    command = [sys.executable, str(HERE / "bits.py"), "--digests-of", tree, "--only", word]
    found = {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment(tree)) as run:
        assert run.stdout
        for line in run.stdout:
            name, value = json.loads(line)
            found[name] = value
            if sys.stderr.isatty():
                print(f"\r{len(found)} calls", end="", file=sys.stderr)
    if run.returncode:
        raise RuntimeError(f"{tree}: the process ended with exit code {run.returncode}")
    return found


def environment(tree: str) -> dict[str, str]:
    """Kernels of another tree are not cached beside the checkout's."""
    own = {} if tree == str(ROOT) else {"NUMBA_CACHE_DIR": f"{tree}/kernels"}
    return os.environ | own


# --- Command --------------------------------------------------------------------------------------


def main(argv: list[str] | None = None) -> int:
    """Compare; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bits",
                                     description=__doc__.split("\n")[0])  # fmt: skip
    add = parser.add_argument
    add("commit", nargs="?", help="the commit to compare with")
    add("--only", default="", metavar="WORD", help="only calls whose name contains this")
    add("--save", metavar="FILE", help="write the checkout's digests, and compare nothing")
    add("--with", dest="kept", metavar="FILE", help="compare with digests that --save wrote")
    add("--digests-of", metavar="TREE", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.digests_of:
        print_digests(args.digests_of, args.only)
        return 0
    if not (args.commit or args.save or args.kept):
        parser.error("name a commit, or --save or --with a file")
    own = digests(str(ROOT), args.only)
    if args.save:
        pathlib.Path(args.save).write_text(json.dumps(own, indent=0))
        return 0
    return report(base_digests(args), own)


def base_digests(args: argparse.Namespace) -> dict[str, str]:
    """What the checkout is compared with."""
    if args.kept:
        kept = json.loads(pathlib.Path(args.kept).read_text())
        return {name: value for name, value in kept.items() if args.only in name}
    from .against import extract, resolved

    with tempfile.TemporaryDirectory() as folder:
        extract(ROOT, resolved(ROOT, args.commit), folder)
        return digests(folder, args.only)


def report(base: dict[str, str], own: dict[str, str]) -> int:
    """Print what differs; the exit code."""
    if not base:
        print("benchmarks.bits: error: nothing to compare with", file=sys.stderr)
        return 2
    different = sorted(name for name in base.keys() | own.keys()
                       if base.get(name) != own.get(name))  # fmt: skip
    for name in different:
        print(f"{name}: {base.get(name, 'missing')} -> {own.get(name, 'missing')}")
    print(f"{len(base)} calls, {len(different)} different")
    return int(bool(different))


if __name__ == "__main__":
    sys.exit(main())
