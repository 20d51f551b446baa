"""Calls of everything that runs on the CPU, on small unusual shapes: (name, callable) pairs.

Tests run them under Numba's bounds check, and on arrays at the end of mapped memory.
"""

import gc
from functools import cache, partial

import numpy as np
from numba import njit
from samplers import ALL, problem

import numba_stn as stn
from numba_stn.ops import inline

gc.set_threshold(50_000, 20, 100)  # as in conftest.py, for the programs that import this

PADDINGS = ("zeros", "border", "reflection")

# (N, C, H, W) of the images and (H_out, W_out): rows shorter than a block of pixels, of one block,
# a little longer, and longer than two workspaces; sides of one to three pixels.
SERIAL = [
    ((1, 1, 1, 1), (1, 1)),
    ((2, 1, 1, 5), (3, 8)),
    ((1, 2, 7, 1), (4, 16)),
    ((2, 3, 2, 2), (2, 33)),
    ((3, 2, 5, 7), (6, 15)),
    ((1, 1, 17, 16), (17, 17)),
    ((1, 3, 19, 33), (5, 41)),
    ((2, 1, 1, 40), (5, 40)),
    ((1, 1, 3, 64), (35, 64)),
    ((2, 1, 40, 3), (8, 33)),
    ((2, 2, 9, 40), (3, 290)),
]
# One shape has enough work for several threads.
SHAPES = [*SERIAL, ((1, 1, 231, 229), (230, 231))]


def maps(rng, count):
    """Affine maps: identity, shrunk, magnified, mirrored, rotated, outside; each with noise."""
    near = np.eye(2, 3)
    rotated = np.array([[0.6, -0.8, 0.1], [0.8, 0.6, -0.2]])
    kinds = np.stack([near, near * 3, near * 0.2, -near, rotated, rotated + [[0, 0, 1.2]] * 2])
    return kinds[rng.integers(0, len(kinds), count)] + 0.01 * rng.standard_normal((count, 2, 3))


def samplers(dtype, shapes=SHAPES):
    """The warps, forward and both gradients; ``call(like)`` passes every input through ``like``."""
    for (shape, size), padding in ((each, padding) for each in shapes for padding in PADDINGS):
        rng = np.random.default_rng(sum(shape))
        images = rng.standard_normal(shape).astype(dtype)
        for count in {len(images), 2}:
            if len(images) not in (1, count):
                continue
            theta = maps(rng, count).astype(dtype)
            grid = stn.affine_grid(theta, size)
            dsamples = rng.standard_normal((count, shape[1], *size)).astype(dtype)
            name = f"{np.dtype(dtype)} {shape} {size} {count} {padding}"
            arguments = (images, theta, grid, dsamples, padding)
            yield f"warp_affine {name}", partial(_warp, *arguments)
            yield f"grid_sample {name}", partial(_grid, *arguments)


def _warp(images, theta, grid, dsamples, padding, like=np.array):
    kind = {"padding_mode": padding, "fill": 0.25}
    out = like(np.zeros_like(dsamples))
    stn.warp_affine(like(images), like(theta), dsamples.shape[2:], out=out, **kind)
    return out, *stn.warp_affine_vjp(like(dsamples), like(images), like(theta), **kind)


def _grid(images, theta, grid, dsamples, padding, like=np.array):
    kind = {"padding_mode": padding, "fill": 0.25}
    out = like(np.zeros_like(dsamples))
    stn.grid_sample(like(images), like(grid), out=out, **kind)
    gradients = stn.grid_sample_vjp(like(dsamples), like(images), like(grid), **kind)
    made = stn.affine_grid(like(theta), dsamples.shape[2:])
    return out, *gradients, made, stn.affine_grid_vjp(like(grid))


# (D, H, W) of the images and of the samples; planes use the last two. Narrow images, a block of
# pixels and a few more, and images longer than a 16-bit index.
NARROW = [
    ((1, 1, 1), (1, 1, 1)),
    ((2, 1, 5), (2, 3, 8)),
    ((3, 7, 1), (2, 4, 16)),
    ((2, 2, 2), (1, 2, 33)),
    ((2, 9, 40), (2, 3, 41)),
    ((3, 40, 3), (1, 8, 33)),
    ((1, 1, 64), (2, 7, 64)),
]
THIN = [((1, 1, 33001), (2, 2, 40)), ((1, 33001, 1), (1, 5, 17)), ((33001, 1, 1), (3, 2, 9))]

# Samplers of every source, mode, padding and number of dimensions that are compiled once more.
FEW = [ALL[k] for k in (6, 10, 13, 17, 19, 22, 36, 39)]


def kinds(table=ALL, shapes=NARROW):
    """The other samplers: forward, coverage, and both gradients."""
    rng = np.random.default_rng(0)
    for sampler in table:
        for sides, size in shapes:
            given = problem(rng, sampler, sides, size)
            if sampler.source != "grid":
                given.coords[:, 0] *= rng.choice([0.1, 1, 5])
            align = bool(rng.integers(2))
            yield f"{sampler} {sides} {size} {align}", partial(_kind, sampler, given, align)


def _kind(sampler, given, align, like=np.array):
    arrays, kind = (given.images, given.coords), {"fill": given.fill, "like": like}
    out = like(sampler.to_layout(np.zeros(given.dsamples.shape, sampler.dtype)))
    _, covered = sampler.sample(*arrays, given.size, align, out=out, coverage=True, **kind)
    return out, covered, *sampler.vjp(given.dsamples, *arrays, align, **kind)


# --- Functions built on the sampler ---------------------------------------------------------------


def derived(table=FEW, shapes=NARROW):
    """Forward derivatives, antialiased warps, lists of points, splines, and a user's own loop."""
    rng = np.random.default_rng(1)
    for sampler in table:
        for sides, size in shapes:
            given, align = problem(rng, sampler, sides, size), bool(rng.integers(2))
            for call in calls_built_on(sampler):
                name = f"{call.__name__[1:]} {sampler} {sides} {size} {align}"
                yield name, partial(call, sampler, given, align)


def calls_built_on(sampler):
    """Calls that use a sampler's kernels."""
    yield _tangent
    if sampler.source == "affine" and sampler.dims == 2 and sampler.mode != "nearest":
        yield _normal_equations
    if sampler.source != "grid":
        yield _mean
        return
    yield from (_points, _loop)
    if sampler.dims == 2:
        yield _spline


def _tangent(sampler, given, align, like=np.array):
    rng = np.random.default_rng(2)
    images_dot = rng.standard_normal(given.images.shape).astype(sampler.compute_dtype)
    coords_dot = rng.standard_normal(given.coords.shape).astype(sampler.coords)
    both = sampler.jvp(given, images_dot, coords_dot, align, like)
    return both, sampler.jvp(given, None, coords_dot, align, like)


def _normal_equations(sampler, given, align, like=np.array):
    arrays = (sampler.to_layout(given.images), given.coords, sampler.to_layout(given.dsamples))
    options = sampler.options(align) | {"layout": sampler.layout, "fill": given.fill}
    return stn.warp_affine_gauss_newton(*map(like, arrays), **options)


def _mean(sampler, given, align, like=np.array):
    arrays, kind = (given.images, given.coords), {"fill": given.fill, "like": like}
    kind["antialias"] = True
    out = like(sampler.to_layout(np.zeros(given.dsamples.shape, sampler.dtype)))
    _, covered = sampler.sample(*arrays, given.size, align, out=out, coverage=True, **kind)
    return out, covered, *sampler.vjp(given.dsamples, *arrays, align, **kind)


def _points(sampler, given, align, like=np.array):
    options = sampler.options(align) | {"layout": sampler.layout}
    batch, channels = given.images.shape[:2]
    points = given.coords.reshape(batch, -1, sampler.dims)
    images = sampler.to_layout(given.images)
    values = sampler.to_layout(given.dsamples.reshape(batch, channels, -1))
    samples = stn.sample_points(like(images), like(points), fill=given.fill, **options)
    back = stn.sample_points_vjp(
        like(values), like(images), like(points), fill=given.fill, **options
    )  # fmt: skip
    if sampler.dtype.startswith("u"):  # integers are not splatted
        return samples, *back
    splatted = stn.splat(like(values), like(points), given.images.shape[2:], **options)
    return (
        samples,
        *back,
        splatted,
        *stn.splat_vjp(like(images), like(values), like(points), **options),
    )


def _spline(sampler, given, align, like=np.array):
    rng = np.random.default_rng(3)
    control = 1.5 * stn.control_points(3) + 0.3 * rng.standard_normal((len(given.images), 9, 2))
    control_dot = rng.standard_normal(control.shape)
    images, dsamples = sampler.to_layout(given.images), sampler.to_layout(given.dsamples)
    options = sampler.options(align) | {"layout": sampler.layout, "fill": given.fill}
    out = like(np.zeros(dsamples.shape, sampler.dtype))
    grid = stn.tps_grid(like(control), given.size, align_corners=align)
    _, covered = stn.warp_tps(
        like(images), like(control), given.size, coverage=True, out=out, **options
    )  # fmt: skip
    back = stn.warp_tps_vjp(like(dsamples), like(images), like(control), **options)
    moved = stn.warp_tps_jvp(
        like(images), like(control), control_dot=like(control_dot), size=given.size, **options
    )  # fmt: skip
    dcontrol = stn.tps_grid_vjp(like(grid), 3, align_corners=align)
    return grid, out, covered, *back, moved, dcontrol


@cache
def loop(mode, padding_mode, dims):
    """A user's own loop over points of an image or a volume."""
    sample = inline.sampler_with_gradient(mode, padding_mode, dims=dims)

    @njit
    def plane(image, points, out):
        for k in range(len(points)):
            out[k] = sample(image, points[k, 0], points[k, 1], 0.5)

    @njit
    def volume(image, points, out):
        for k in range(len(points)):
            out[k] = sample(image, points[k, 0], points[k, 1], points[k, 2], 0.5)

    return plane if dims == 2 else volume


def _loop(sampler, given, align, like=np.array):
    image, points = given.images[0, 0], given.coords.reshape(-1, sampler.dims)
    sides = np.array(image.shape[::-1])
    pixels = ((points + 1) * sides - 1) / 2
    out = like(np.zeros((len(points), 1 + sampler.dims)))
    loop(sampler.mode, sampler.padding, sampler.dims)(like(image), like(pixels), out)
    return (out,)


# --- Pictures and layers --------------------------------------------------------------------------


def pictures(dtypes=("uint8", "uint16", "float32", "float64")):
    """Calls of warp_image, if this version has it."""
    if not hasattr(stn, "warp_image"):
        return
    rng = np.random.default_rng(0)
    for dtype in dtypes:
        for shape in ((1, 1), (5, 7), (7, 1, 3), (17, 16, 3), (3, 40), (19, 33, 4), (231, 229)):
            image = (200 * rng.random(shape)).astype(dtype)
            for padding in PADDINGS:
                matrix = maps(rng, 1)[0] * [1, 1, 9]
                name = f"warp_image {dtype} {shape} {padding}"
                yield name, partial(_picture, image, matrix, padding)


def _picture(image, matrix, padding, like=np.array):
    out = like(np.zeros_like(image))
    stn.warp_image(like(image), like(matrix), padding_mode=padding, out=out)
    return (out,)


def layers():
    """Layers with kernels of their own, alone and in groups: odd sides, strides, padding, batches.

    fuzz_layers.py has many more, and wrong arguments.
    """
    from numba_stn import nn

    localisation = nn.serial(nn.max_pool(2), nn.conv2d(2, 3), nn.relu(), nn.flatten(), nn.linear(4))
    nets = {
        "a network": nn.serial(
            nn.spatial_transformer(localisation), nn.conv2d(3, 3, stride=2, padding=1),
            nn.batch_norm(), nn.max_pool(2), nn.conv2d(2, 2), nn.avg_pool(2), nn.flatten(),
            nn.linear(3),
        ),
        "convolutions": nn.serial(nn.conv2d(5, 1), nn.conv2d(4, 4, 3, 2), nn.relu()),
        "pooling": nn.serial(nn.max_pool(3), nn.avg_pool(2), nn.max_pool(1)),
        "normalisation": nn.serial(nn.batch_norm(), nn.conv2d(7, 2), nn.batch_norm(), nn.relu()),
        "normalisation, pooled": nn.serial(nn.conv2d(3, 2), nn.batch_norm(), nn.max_pool(3)),
        "in parallel": nn.parallel(nn.conv2d(3, 3, padding=1), nn.relu(), nn.dropout(0.3)),
        "views": nn.mean_of_views(2, nn.conv2d(3, 3), nn.batch_norm(), nn.flatten(), nn.linear(2)),
    }  # fmt: skip
    for name, net in nets.items():
        for batch in (1, 3, 17):
            yield f"layers: {name}, {batch}", partial(_network, net, batch)


def _network(net, batch, like=np.array):
    from numba_stn.nn.tree import leaves, tree_map

    rng = np.random.default_rng(0)
    shape = (2, 17, 19)
    params, state = tree_map(like, net.init(rng, shape)), tree_map(like, net.init_state(shape))
    x = rng.standard_normal((batch, *shape)).astype(np.float32)
    y, pullback, state = net.apply(params, like(x), state, train=True)
    dparams, dx = pullback(like(np.ones_like(y)))
    return y, dx, *(leaf for _, leaf in leaves((dparams, state)))


# --- Registration ---------------------------------------------------------------------------------


def registrations():
    """Registration of planes and volumes with odd sides, with and without masks."""
    rng = np.random.default_rng(4)
    plane = stn.resize(rng.random((7, 9)).astype(np.float32), (49, 61), mode="bicubic")
    volume = np.float32(np.cumsum(rng.standard_normal((9, 17, 19)), axis=2))
    for image, transform in (
        (plane, "affine"), (plane, "projective"), (plane, "tps"), (volume, "rigid 3-D"),
    ):  # fmt: skip
        for share in (0, 0.1):
            images = image[1:], image[:-1, :-2]
            masks = [rng.random(each.shape) >= share if share else None for each in images]
            yield f"register {transform} {share}", partial(_register, images, masks, transform)


def _register(images, masks, transform, like=np.array):
    moving_mask, mask = (None if each is None else like(each) for each in masks)
    found = stn.register(
        *map(like, images), transform, mask=mask, moving_mask=moving_mask, iterations=3
    )
    return found.theta, found.aligned
