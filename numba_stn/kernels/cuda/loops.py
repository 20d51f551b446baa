"""The loops of the CUDA kernels, each written once: over output pixels, and sums over a map's rows.

A kernel passes a loop the functions that handle a slice, a row or a pixel, and ``call``, a tuple of
the flags and arrays that these functions need. The functions are inlined, so that the compiler sees
one piece of code with constant flags.

Each of them is a device function at the level of its module, and no kernel closes over one: Numba
would not find such a kernel in its cache on disk.

A slice is one map's output at one depth; a plane has one slice. ``where`` is the output pixel
(n, k, i, j) of map n, slice k, row i and column j.
"""

from ..math.coordinates import base_coordinate
from .device import BLOCK, ROWS_A_THREAD, cuda, device_function, inlined

# Rows of a tile, the output pixels of one block.
TILE = BLOCK[1] * ROWS_A_THREAD

# --- Over output pixels ---------------------------------------------------------------------------


@inlined
def each_pixel(of_slice, of_pixel, dims, call, g):
    """Handle each output pixel of this thread: ``of_pixel(call, g, common, where)``.

    ``of_slice(call, g, n, k)`` computes what the pixels of a slice have in common.
    """
    _, batch, _ = g.counts
    depth, _, columns = g.sizes
    index = type(columns)
    number, first, j = first_pixel(index)
    while j < columns and number < batch * (depth if dims == 3 else index(1)):
        n, k = number, index(0)
        if dims == 3:
            n, k = quotient(number, depth)
        each_row(of_pixel, call, g, of_slice(call, g, n, k), (n, k, first, j))
        number = index(number + cuda.gridDim.z)


@inlined
def each_row(of_pixel, call, g, common, where):
    """Handle the pixels of this thread in one column of a slice, from ``where`` on."""
    n, k, i, j = where
    while i < g.sizes[1]:
        of_pixel(call, g, common, (n, k, i, j))
        i = type(j)(next_row(i))


@device_function
def first_pixel(index):
    """Slice, row and column at which this thread begins."""
    return (
        index(cuda.blockIdx.z),
        index(cuda.blockIdx.y * TILE + cuda.threadIdx.y),
        index(cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x),
    )


@inlined
def first_x(g):
    """Normalised x of this thread's column."""
    _, _, j = first_pixel(type(g.sizes[2]))
    return base_coordinate(j, g.sizes[2], g.off)


@device_function
def next_row(i):
    """The row after row ``i`` of this thread: in the same tile, or in the next one of the block.

    Each result is narrowed at once, else the compiler would count in 64 bits.
    """
    index = type(i)
    i = index(i + cuda.blockDim.y)
    if index(i - cuda.threadIdx.y) & index(TILE - 1) == index(0):
        i = index(i + index(index(cuda.gridDim.y - 1) * index(TILE)))
    return i


# --- Sums over the rows of one map ----------------------------------------------------------------


@inlined
def sum_pixels(of_slice, of_row, of_pixel, dims, call, g, sums, part):
    """Add this thread's share of a part of a map to ``sums``, row by row; see :func:`block_part`.

    ``of_slice(call, g, n, 0)`` and ``of_row(call, g, common, n, k, i)`` compute what the pixels of
    a map and of a row have in common. ``of_pixel(call, g, common, row, sums, where)`` gives the
    sums with one pixel added.
    """
    depth, rows, columns = g.sizes
    index = type(columns)
    n, number, parts = part
    common = of_slice(call, g, n, index(0))
    line = index(number * BLOCK[1] + cuda.threadIdx.y)
    while line < (depth if dims == 3 else index(1)) * rows:
        k, i = index(0), line
        if dims == 3:
            k, i = quotient(line, rows)
        row = of_row(call, g, common, n, k, i)
        j = index(cuda.threadIdx.x)
        while j < columns:
            sums = of_pixel(call, g, common, row, sums, (n, k, i, j))
            j = index(j + BLOCK[0])
        line = index(line + parts * BLOCK[1])
    return sums


@inlined
def block_part(parts, g):
    """Map of this block, which of the map's parts the block sums, and the number of parts."""
    index = type(g.sizes[2])
    n, number = quotient(cuda.blockIdx.x, parts)
    return index(n), index(number), parts


@inlined
def quotient(a, b):
    """Quotient and remainder, by one division; neither number is negative."""
    whole = a // b
    return type(a)(whole), type(a)(a - whole * b)


@inlined
def no_slice(call, g, n, k):
    """An ``of_slice`` for pixels that have nothing in common."""
    return n


@inlined
def row_y(call, g, common, n, k, i):
    """An ``of_row`` that gives the normalised y of the row."""
    return base_coordinate(i, g.sizes[1], g.off)
