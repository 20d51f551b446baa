"""Test whether this checkout gives the same bits as another commit.

``python -m benchmarks.bits COMMIT`` runs a fixed set of calls in two processes, one with the
commit's numba_stn and one with the checkout's, and compares digests of the results' dtypes, shapes
and bytes. The exit code is 1 if a digest differs or a call exists on one side only, and 2 if
nothing could be compared. A call that raises an error must raise one of the same type on both
sides; the message may differ.

The calls cover the samples and the gradients of every public operation, in every mode, padding,
layout, dtype and number of dimensions. Small and odd shapes run the serial kernels, larger ones the
parallel kernels. Single images, layers, training steps, distortions and registration are covered
too. The calls are those of the checkout; what they share with the tests (``tests/everything.py``)
comes from each commit's own tests, so that its names may differ. ``--save FILE`` writes the
checkout's digests, and ``--with FILE`` compares with them. Two more comparisons are of the checkout
with itself: ``--loaded`` of a process that compiles all kernels with one that loads them, and
``--processor NAME`` of this processor with another that LLVM knows, such as ``generic``. There the
calls with a convolution may differ, as ``docs/semantics.md`` says.
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

from numba_stn.utils.atomic_write import write_atomically

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent

# The (D, H, W) of images and of samples with enough work for the parallel kernels; planes use the
# last two.
LARGE = [((20, 200, 211), (17, 189, 203))]

# The (H, W) of images and of outputs, for the calls that this module defines.
SIDES = [((5, 7), (4, 19)), ((33, 40), (35, 64)), ((300, 290), (280, 310))]


# --- Calls ----------------------------------------------------------------------------------------


def calls() -> Iterator[tuple[str, object]]:
    """Give the name of each call, and a function without arguments that returns arrays."""
    import everything

    for dtype in ("float32", "float64"):
        yield from everything.samplers(dtype)
    yield from everything.kinds()
    yield from everything.kinds(everything.ALL, LARGE)
    yield from everything.derived(everything.ALL, everything.NARROW[3:5])
    yield from single_images()
    yield from batch_options()
    yield from parametrisations()
    yield from everything.layers()
    yield from training()
    yield from distortions()
    yield from registrations()


def single_images():
    """The functions of one image in every mode, padding, dtype and number of channels."""
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
                    case = f"{dtype} {image.shape} {mode}"
                    for padding in ("zeros", "border", "reflection", "wrap"):
                        options = {"mode": mode, "padding_mode": padding}
                        for name, matrix in maps.items():
                            yield (
                                f"warp_image {case} {padding} {name}",
                                partial(stn.warp_image, image, np.array(matrix), size, **options),
                            )
                    box = (1.5, 0.25, sides[1] - 2, sides[0] - 0.5)
                    yield f"resize {case}", partial(stn.resize, image, size, mode=mode)
                    yield f"rotate {case}", partial(stn.rotate, image, 33, mode=mode)
                    yield (
                        f"crop_and_resize {case}",
                        partial(stn.crop_and_resize, image, box, size, mode=mode),
                    )


def batch_options():
    """The options of batch warps that the calls of ``tests/everything.py`` leave out."""
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
                yield f"pixels_from_grid {name}", partial(lambda pixels: pixels, pixels)
                yield (
                    f"grid_from_pixels {name}",
                    partial(stn.grid_from_pixels, pixels, sides, **corners),
                )
                displacement = (pixels - pixels.round()).astype(dtype)
                yield (
                    f"grid_from_displacement {name}",
                    partial(stn.grid_from_displacement, displacement, sides, **corners),
                )


def parametrisations():
    """Theta from parameters, and the gradient of the parameters."""
    from numba_stn import transforms as module

    rng = np.random.default_rng(2)
    for name in sorted(module.__all__):
        transform = getattr(module, name)
        if not isinstance(transform, module.Transform):
            continue
        params = transform.identity + 0.2 * rng.standard_normal((5, transform.size))
        dtheta = rng.standard_normal((5, *transform.shape))
        yield f"theta of {name}", partial(transform.theta, params)
        yield f"dtheta of {name}", partial(transform.vjp, dtheta, params)


def training():
    """Three steps of each optimiser, for a network with a transformer and every kind of layer."""
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
    """The distorted digits of the paper's tasks."""
    from numba_stn import data

    rng = np.random.default_rng(4)
    split = data.Split(rng.random((70, 1, 28, 28)).astype(np.float32), rng.integers(0, 10, 70))
    for name, task in data.TASKS.items():
        yield f"task {name}", partial(_distort, task, split)


def _distort(task, split):
    distorted = task(np.random.default_rng(5), split)
    return distorted.images, distorted.labels


def registrations():
    """Registration of a smooth random image with a rotated copy."""
    for transform in ("translation", "rigid", "similarity", "affine", "projective", "tps"):
        for metric in ("correlation", "intensity"):
            yield f"register {transform} {metric}", partial(_register, transform, metric)


def _register(transform, metric):
    import numba_stn as stn

    coarse = np.random.default_rng(6).random((12, 13)).astype(np.float32)
    fixed = stn.resize(coarse, (120, 130), mode="bicubic")
    moving = stn.rotate(fixed, 3.5, zoom=1.03, padding_mode="border")
    result = stn.register(moving, fixed, transform, metric=metric)
    return result.theta, result.aligned


# --- Digests --------------------------------------------------------------------------------------


def digest(value: object) -> str:
    """Hash the dtypes, shapes and bytes of a tree of arrays."""
    hashed = hashlib.sha256()
    for leaf in leaves(value):
        array = np.ascontiguousarray(leaf)
        hashed.update(f"{array.dtype} {array.shape}".encode())
        hashed.update(array.tobytes())
    return hashed.hexdigest()[:16]


def leaves(value: object) -> Iterator[np.ndarray]:
    """List the arrays of a tree of dicts, tuples and lists in a fixed order; None has no arrays."""
    if isinstance(value, dict):
        for key in sorted(value):
            yield from leaves(value[key])
    elif isinstance(value, tuple | list):
        for item in value:
            yield from leaves(item)
    elif value is not None:
        yield np.asarray(value)


def print_digests(tree: str, word: str) -> None:
    """Make the calls whose name contains ``word`` with the tree's numba_stn.

    Print the name and the digest of each call as a line of JSON.
    """
    sys.path[:0] = [tree, f"{tree}/tests"]
    import numba_stn

    found = pathlib.Path(numba_stn.__file__).parents[1]
    if found != pathlib.Path(tree).resolve():
        raise ImportError(f"numba_stn: expected the one in {tree}, got the one in {found}")
    with np.errstate(all="ignore"):
        for name, call in calls():
            if word in name:
                try:
                    result = digest(call())
                except Exception as error:  # recorded; the report counts these
                    result = f"{type(error).__name__}: {error}"
                print(json.dumps([name, result]), flush=True)


def run_digests(tree: str, word: str, **env: str) -> dict[str, str]:
    """Collect the digests of a process that loads its kernels.

    A first process compiles the kernels; its digests are discarded, because ``register`` of earlier
    commits gives other last bits in the process that compiles it.
    """
    digests_of_a_process(tree, word, **env)
    return digests_of_a_process(tree, word, **env)


def digests_of_a_process(tree: str, word: str, **env: str) -> dict[str, str]:
    """Run :func:`print_digests` in a new process, and collect the digests.

    Raises
    ------
    NothingToCompareError
        If the process fails.
    """
    command = [sys.executable, str(HERE / "bits.py"), "--digests-of", tree, "--only", word]
    digests, env = {}, dict(environment(tree)) | env
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as run:
        assert run.stdout
        for line in run.stdout:
            name, result = json.loads(line)
            digests[name] = result
            if sys.stderr.isatty():
                print(f"\r{len(digests)} calls", end="", file=sys.stderr)
    if run.returncode:
        from .against import NothingToCompareError  # not at the top: this file is also a script

        raise NothingToCompareError(
            f"{tree}: the process failed with exit code {run.returncode}; see its message above"
        )
    return digests


def environment(tree: str) -> dict[str, str]:
    """Give another tree than the checkout a kernel cache of its own."""
    cache = {} if tree == str(ROOT) else {"NUMBA_CACHE_DIR": f"{tree}/kernels"}
    return os.environ | cache


# --- Command --------------------------------------------------------------------------------------


def main(argv: list[str] | None = None) -> int:
    """Compare, and return the exit code."""
    args = parse(argv)
    if args.digests_of:
        print_digests(args.digests_of, args.only)
        return 0
    from .against import NothingToCompareError

    try:
        if args.save:
            digests = run_digests(str(ROOT), args.only)
            write_atomically(pathlib.Path(args.save), json.dumps(digests, indent=0).encode())
            return 0
        base, checkout = both_digests(args)
        if not base:
            raise NothingToCompareError(f"no call's name contains {args.only!r}")
        return report(base, checkout)
    except (NothingToCompareError, OSError, json.JSONDecodeError) as error:
        print(f"benchmarks.bits: error: {error}", file=sys.stderr)
        return 2


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bits",
                                     description=__doc__.split("\n")[0])  # fmt: skip
    add = parser.add_argument
    add("commit", nargs="?", help="the commit to compare with")
    add("--only", default="", metavar="WORD", help="only calls whose name contains this")
    add("--save", metavar="FILE", help="write the checkout's digests, without a comparison")
    add("--with", dest="saved", metavar="FILE", help="compare with digests that --save wrote")
    add("--loaded", action="store_const", const=True,
        help="compare a process that compiles with one that loads")  # fmt: skip
    add("--processor", metavar="NAME", help="compare with another processor, such as generic")
    add("--digests-of", metavar="TREE", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    given = [args.commit, args.save, args.saved, args.loaded, args.processor, args.digests_of]
    if sum(value is not None for value in given) != 1:
        parser.error(
            "expected one of COMMIT, --save FILE, --with FILE, --loaded and --processor NAME"
        )
    return args


def both_digests(args: argparse.Namespace) -> tuple[dict[str, str], dict[str, str]]:
    """Compute or read what is compared with, and compute the checkout's digests."""
    tree, word = str(ROOT), args.only
    if args.loaded:
        with tempfile.TemporaryDirectory() as cache:
            compiled, loaded = (
                digests_of_a_process(tree, word, NUMBA_CACHE_DIR=cache) for _ in range(2)
            )
            return compiled, loaded
    if args.processor:
        other = run_digests(tree, word, NUMBA_CPU_NAME=args.processor)
        return run_digests(tree, word), other
    base = saved_digests(args) if args.saved else commit_digests(args)
    return base, run_digests(tree, word)


def saved_digests(args: argparse.Namespace) -> dict[str, str]:
    """Read the digests that ``--save`` wrote."""
    saved = json.loads(pathlib.Path(args.saved).read_text())
    return {name: result for name, result in saved.items() if args.only in name}


def commit_digests(args: argparse.Namespace) -> dict[str, str]:
    """Compute the digests of a commit."""
    from .against import extract, resolve

    with tempfile.TemporaryDirectory() as folder:
        extract(ROOT, resolve(ROOT, args.commit), folder, ("numba_stn", "tests"))
        return run_digests(folder, args.only)


def report(base: dict[str, str], checkout: dict[str, str]) -> int:
    """Print the differences, and return the exit code."""
    different = [name for name in sorted(base.keys() | checkout.keys())
                 if _comparable(base.get(name)) != _comparable(checkout.get(name))]  # fmt: skip
    for name in different:
        print(f"{name}: {base.get(name, 'missing')} -> {checkout.get(name, 'missing')}")
    raised = sum(":" in result for result in checkout.values())
    print(f"{len(base)} calls, {len(different)} different, {raised} raised an error")
    return int(bool(different))


def _comparable(result):
    """Drop the message of an error."""
    return result and result.partition(":")[0]


if __name__ == "__main__":
    sys.exit(main())
