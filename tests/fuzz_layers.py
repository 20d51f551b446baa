"""Program: apply random stacks of layers to right and wrong arrays, on pages without neighbours.

``python tests/fuzz_layers.py --count 20000 --seed 0``

Each stack is applied, forward and backward, four times. First to arrays that fit, and compared with
:mod:`plain_layers`. Then to the same numbers next to memory that must not be accessed (as in
:mod:`guarded`), of other strides or byte orders: the bits must be the same. Then to arrays of which
one is wrong, there too: that is a ValueError or TypeError, or, where a stack takes such an array,
the oracle's result. An access beyond an array kills the process; everything else that is not as it
should be ends it with a report.
"""

import argparse
import contextlib
import gc
import sys
import time
import warnings

import numpy as np
import plain_layers
from guarded import guarded

from numba_stn import nn
from numba_stn.kernels import cpu_launch
from numba_stn.nn.tree import leaves, tree_map

# --- Random stacks --------------------------------------------------------------------------------


def random_stack(rng, shape, depth):
    """Layers in series for inputs of this shape; a few of them are containers."""
    layers = []
    for _ in range(rng.integers(1, depth + 3)):
        layer = random_layer(rng, shape, depth)
        try:
            shape = layer.output_shape(shape)
        except ValueError:  # it does not fit here
            continue
        layers.append(layer)
    return nn.serial(*layers)


def random_layer(rng, shape, depth):
    """A layer that is likely to fit a shape."""

    def number(low, high):
        return int(rng.integers(low, high + 1))

    if len(shape) == 1:
        return choose(rng, lambda: nn.linear(number(1, 5)), lambda: activation(rng), nn.batch_norm,
                      any_norm, lambda: nn.dropout(0.4, number(0, 9)))  # fmt: skip
    if len(shape) == 4:
        return choose(rng, nn.flatten, nn.global_avg_pool, lambda: activation(rng), nn.batch_norm,
                      lambda: nn.dropout(0.4),
                      lambda: random_transformer(rng, shape, 1))  # fmt: skip
    kinds = [lambda: nn.conv2d(number(1, 6), number(1, 3), number(1, 3), number(0, 2)),
             lambda: nn.conv2d(number(1, 6), 3, padding=1), lambda: nn.max_pool(number(1, 3)),
             lambda: nn.conv2d(number(1, 6), number(1, 4), number(1, 3), "same"),
             lambda: nn.max_pool(2), lambda: nn.avg_pool(number(1, 3)), nn.relu, nn.batch_norm,
             lambda: activation(rng), any_norm, nn.flatten, nn.global_avg_pool,
             lambda: nn.dropout(0.4, number(0, 9))]  # fmt: skip
    if depth > 1:
        kinds += [lambda: random_parallel(rng, shape, depth - 1),
                  lambda: random_residual(rng, shape, depth - 1),
                  lambda: random_views(rng, shape, depth - 1),
                  lambda: random_transformer(rng, shape, depth - 1)]  # fmt: skip
    return choose(rng, *kinds)


def choose(rng, *kinds):
    """One of the layers."""
    return kinds[rng.integers(len(kinds))]()


def activation(rng):
    """One of the activations."""
    return choose(rng, nn.relu, nn.tanh, nn.sigmoid, nn.softmax, lambda: nn.leaky_relu(0.3))


def any_norm():
    """Batch normalisation with other numbers than usual."""
    return nn.batch_norm(momentum=0.25, epsilon=1e-3)


def random_parallel(rng, shape, depth):
    """Layers whose outputs have the same sides."""
    convolution = nn.conv2d(int(rng.integers(1, 4)), 3, padding=1)
    return nn.parallel(convolution, random_same(rng), random_same(rng, depth))


def random_residual(rng, shape, depth):
    """Layers that keep the shape, and the sum of their output and x; or two convolutions."""
    if rng.random() < 0.5:
        layer = random_same(rng, depth)
        return nn.residual(layer, nn.conv2d(max(1, shape[0]), 3, padding="same"), activation(rng))
    return nn.sum_of(nn.conv2d(2, 3, 2, "same"), nn.conv2d(2, 1, 2), nn.conv2d(2, 2, 2, "same"))


def random_same(rng, depth=0):
    """A layer whose output has its input's sides."""
    kinds = [nn.relu, nn.batch_norm, lambda: nn.conv2d(2, 1), lambda: nn.max_pool(1)]
    layer = choose(rng, *kinds)
    return nn.serial(layer, random_same(rng, depth - 1)) if depth else layer


def random_views(rng, shape, depth):
    """The mean of up to three views, or of one view for each channel."""
    views = int(rng.integers(1, 4))
    if shape[0] % views:
        views = max(1, shape[0])
    part = (shape[0] // views, *shape[1:])
    return nn.mean_of_views(views, *random_stack(rng, part, depth).layers)


def random_transformer(rng, shape, depth):
    """A spatial transformer; the oracle knows those of affine maps, without views."""
    localisation = nn.serial(*random_stack(rng, shape, depth).layers, nn.flatten())
    padding = ("zeros", "border", "reflection")[rng.integers(3)]
    size = None if rng.random() < 0.3 else tuple(map(int, rng.integers(1, 6, len(shape) - 1)))
    align, transform, angles = bool(rng.integers(2)), "affine", ()
    if len(shape) == 4:
        transform = ("affine_3d", "rigid_3d")[rng.integers(2)]
    elif rng.random() < 0.3:
        transform = ("attention", "projective", "tps", "similarity")[rng.integers(4)]
        angles = () if transform == "tps" else (0, 50)[: rng.integers(3)]
    return nn.spatial_transformer(localisation, transform, size, padding, align, 1.0, angles)


# --- A case: a stack and the arrays for it --------------------------------------------------------

NAMES = ("params", "x", "state", "dy")

# Numbers of images, and how often they occur: some fill one or two blocks of 16.
BATCHES, SHARES = (0, 1, 2, 3, 16, 17, 33), (0.1, 0.2, 0.3, 0.25, 0.05, 0.05, 0.05)


def random_case(rng):
    """A stack, its arguments by name, and whether it is trained."""
    dims = int(rng.choice([0, 2, 3], p=[0.15, 0.8, 0.05]))
    channels = 0 if rng.random() < 0.02 else int(rng.integers(1, 6))
    shape = (channels, *map(int, rng.integers(1, 8 if dims < 3 else 5, dims)))
    net, batch = random_stack(rng, shape, 3), int(rng.choice(BATCHES, p=SHARES))
    real = np.float32 if rng.random() < 0.5 else np.float64

    def numbers(array):
        return (array + 0.3 * rng.standard_normal(array.shape)).astype(real)

    def statistic(array):  # dropout's is the number of steps
        return np.abs(numbers(array)) + real(0.1) if array.dtype.kind == "f" else array

    given = {
        "params": tree_map(numbers, net.init(rng, shape)),
        "x": rng.standard_normal((batch, *shape)).astype(real),
        "state": tree_map(statistic, net.init_state(shape)),
        "dy": rng.standard_normal((batch, *net.output_shape(shape))).astype(real),
    }
    return net, given, bool(rng.integers(2)) and batch > 0


def run(apply, net, given, train):
    """Everything that comes out, as a flat dictionary."""
    y, pullback, state = apply(net, given["params"], given["x"], given["state"], train)
    dparams, dx = pullback(given["dy"])
    found = {"y": y, "dx": dx}
    for name, tree in (("dparams", dparams), ("state", state)):
        found |= {  # a layer without state returns whatever it was given as one
            f"{name}.{'.'.join(path)}": leaf
            for path, leaf in leaves(tree)
            if hasattr(leaf, "dtype")
        }
    return found


def ours(net, params, x, state, train):
    """The network itself."""
    return net.apply(params, x, state, train)


def check_oracle(found, net, given, train):
    """Compare with the oracle; backward only in float64, where no two values are nearly equal."""
    double = given["x"].dtype == np.float64
    try:
        expected = run(plain_layers.apply, net, given, train)
    except NotImplementedError:  # the guarded results are compared with others of its own
        return
    assert found.keys() == expected.keys()
    for name, want in expected.items():
        if double or not name.startswith("d"):
            assert found[name].shape == want.shape, name
            largest = np.abs(want).max(initial=1.0)
            tolerance = (1e-7 if double else 3e-2) * largest
            np.testing.assert_allclose(found[name], want, rtol=0, atol=tolerance, err_msg=name)


# --- Guards ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def guarded_results(at_end):
    """Context in which new arrays are next to memory that must not be accessed, full of NaN."""
    plain = {name: getattr(np, name) for name in ("empty", "zeros", "empty_like", "zeros_like")}

    def empty(shape, dtype=float, order="C", *, byte=0xFF):
        shape = (shape,) if np.ndim(shape) == 0 else tuple(shape)
        if not np.prod(shape):
            return plain["empty"](shape, dtype)
        array = guarded(tuple(map(int, shape)), dtype, at_end)
        array.reshape(-1).view(np.uint8)[...] = byte
        return array

    np.empty, np.zeros = empty, lambda shape, dtype=float: empty(shape, dtype, byte=0)
    np.empty_like = lambda a, dtype=None: empty(a.shape, dtype or a.dtype)
    np.zeros_like = lambda a, dtype=None: empty(a.shape, dtype or a.dtype, byte=0)
    try:
        yield lambda array: copied(empty, array)
    finally:
        for name, function in plain.items():
            setattr(np, name, function)


def copied(empty, array):
    """A copy between guards, if it is an array."""
    if type(array) is not np.ndarray or array.dtype == object:
        return array
    copy = empty(array.shape, array.dtype)
    copy[...] = array
    return copy


def other_layout(rng, array):
    """The same numbers, of other strides or in the other byte order; only for x and dy."""
    if not array.size:
        return array
    kind = rng.integers(4)
    if kind == 0:
        return array.astype(array.dtype.newbyteorder("S"))
    if kind == 1:
        return np.repeat(array, 2, axis=-1)[..., ::2]
    return np.asfortranarray(array) if kind == 2 else array[..., ::-1].copy()[..., ::-1]


# --- Wrong arrays ---------------------------------------------------------------------------------


def wrong(rng, given):
    """The arguments, of which one is wrong; and whether every stack must refuse them."""
    names = [name for name in NAMES if list(leaves(given[name]))]
    name = names[rng.integers(len(names))]
    tree = given[name]
    if name in ("params", "state") and rng.random() < 0.3:
        return {**given, name: wrong_structure(rng, tree)}, f"{name}: structure", name == "params"
    paths = [path for path, _ in leaves(tree)]
    path = paths[rng.integers(len(paths))]
    bad, what, certain = wrong_array(rng, dict(leaves(tree))[path], name)
    return {**given, name: replaced(tree, path, bad)}, f"{name} {path}: {what}", certain


def wrong_array(rng, array, name):
    """An array of another type or shape, what it is, and whether it can fit nowhere."""
    kind = rng.integers(9)
    if kind == 0:
        dtype = rng.choice(["int64", "uint8", "complex128", "float16", "object", "bool", "S3"])
        return array.astype(dtype), f"of {dtype}", True
    if kind == 1:
        odd = (None, "text", 1.5, {}, (), object(), array.tolist(), np.ma.masked_array(array))
        return odd[rng.integers(len(odd))], "no array", True
    certain = name != "x"  # a stack may take an x of another shape
    if kind == 2:
        return array[..., None], "one axis more", certain
    if kind == 3:
        return np.ones((), array.dtype), "0-d", True
    if kind == 4:
        return np.zeros((*array.shape[:-1], 600), array.dtype), "600 long", certain
    axis = int(rng.integers(array.ndim))
    if kind in (5, 6) and array.shape[axis]:
        return np.take(array, range(array.shape[axis] - 1), axis), f"shorter along {axis}", certain
    sides = list(array.shape)
    sides[axis] += 1
    return np.ones(sides, array.dtype), f"longer along {axis}", certain


def replaced(tree, path, leaf):
    """The tree with another leaf at a path."""
    if not path:
        return leaf
    key = path[0]
    if isinstance(tree, dict):
        return tree | {key: replaced(tree[key], path[1:], leaf)}
    return tuple(
        replaced(part, path[1:], leaf) if str(n) == key else part for n, part in enumerate(tree)
    )


def wrong_structure(rng, tree):
    """A tree with another structure, at the top or below."""
    kind = rng.integers(6)
    if kind == 0:
        return (None, 7, "text", np.zeros(3))[rng.integers(4)]
    if isinstance(tree, dict):
        if kind == 1:
            return tree | {"extra": np.zeros(2)}
        if kind == 2 or not all(isinstance(part, (dict, tuple)) for part in tree.values()):
            return dict(list(tree.items())[1:])
        key = list(tree)[rng.integers(len(tree))]
        return tree | {key: wrong_structure(rng, tree[key])}
    if kind == 1 or not tree:
        return (*tree, {"weight": np.zeros((2, 2))})
    if kind == 2:
        return tree[1:]
    inside = [n for n, part in enumerate(tree) if part != ()]
    n = inside[rng.integers(len(inside))] if inside else 0
    return (*tree[:n], wrong_structure(rng, tree[n]), *tree[n + 1 :])


# --- The program ----------------------------------------------------------------------------------


def check_stack(rng, at_end):
    """Check one stack; returns how many wrong arguments were refused, and how many fitted."""
    net, given, train = random_case(rng)
    expected = run(ours, net, given, train)  # compiles, with normal allocations
    check_oracle(expected, net, given, train)
    with guarded_results(at_end) as like:
        placed = {name: tree_map(like, tree) for name, tree in given.items()}
        found = run(ours, net, placed, train)
        name = "x" if rng.integers(2) else "dy"
        strided = run(ours, net, placed | {name: other_layout(rng, placed[name])}, train)
    for result in (found, strided):
        for name, want in expected.items():
            np.testing.assert_array_equal(result[name], want, err_msg=name)
    counts = [0, 0]
    for _ in range(2):
        bad, what, certain = wrong(rng, given)
        refused = try_wrong(net, bad, train, at_end)
        if not refused and certain:
            raise AssertionError(f"{what} was taken by {net}")
        counts[not refused] += 1
    return counts


def try_wrong(net, bad, train, at_end):
    """Whether wrong arguments are refused; if not, the result must be the oracle's."""
    with guarded_results(at_end) as like:
        placed = {name: tree_map(like, tree) for name, tree in bad.items()}
        try:
            found = run(ours, net, placed, train)
        except (ValueError, TypeError) as error:
            if str(error).count(": ") < 2:
                raise AssertionError("expected an error that names layer and argument") from error
            return True
    check_oracle(found, net, bad, train)
    for name, want in run(ours, net, bad, train).items():
        np.testing.assert_array_equal(found[name], want, err_msg=name)
    return False


def main():
    """Check stacks, and print how many."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=20_000, help="number of stacks")
    parser.add_argument("--seed", type=int, default=0, help="of the first one")
    parser.add_argument("--progress", action="store_true", help="report each stack, for a crash")
    args = parser.parse_args()
    gc.set_threshold(50_000, 20, 100)  # as in conftest.py
    cpu_launch.PARALLEL_WORK = 10**12  # the parallel kernels have the same loops
    warnings.simplefilter("error")
    began, refused, fitted = time.perf_counter(), 0, 0
    for number in range(args.seed, args.seed + args.count):
        if args.progress:
            print(number, file=sys.stderr, flush=True)
        try:
            counts = check_stack(np.random.default_rng(number), at_end=number % 2 == 0)
        except Exception:
            print(f"--seed {number} --count 1 repeats this:", file=sys.stderr)
            raise
        refused, fitted = refused + counts[0], fitted + counts[1]
    seconds = time.perf_counter() - began
    print(f"{args.count} stacks, {refused} wrong arguments refused, {fitted} that fitted; "
          f"no access beyond an array ({seconds:.0f} s)")  # fmt: skip


if __name__ == "__main__":
    main()
