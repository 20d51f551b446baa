"""How kernels of the plane walk over their output: tiles of rows, chunks of blocks, row after row.

What a tile reads stays in the cache, and within few pages. While one row of a chunk is worked
through, the next is already placed: see :mod:`.addresses`.
"""

import functools

import numpy as np

from ..math.coordinates import PROJECTIVE, inlined
from .rows import block_count, first_slot, make_found_row, touching
from .simd.addresses import SLOTS, place, run_length


@functools.cache
def make_walk(source, padding, mode, run, rest, soon):
    """Function: work through the blocks of a tile of rows, ``(n, start, end, fast, columns)``.

    Each is done by one of three functions, which get the ``task`` as it is.
    ``run(task, row, where, slots)`` is called for ``where[2]`` placed blocks at a time,
    ``(i, k, count, slot)``: in row i, from the k-th on, the first of them in that slot;
    ``rest(task, row, limit, i, k)`` for each other block that may read something, and
    ``soon(task, placed, slots)`` with the bits of the slots that come next. ``maps`` and
    ``limits`` are what :mod:`.rows` keeps of the tile's rows.
    """
    found_row = make_found_row(6 if source == PROJECTIVE else 4)

    def walk(task, coords, tile, maps, limits, zero, slots):
        n, start, end, fast, columns = tile
        blocks = block_count(columns)
        for chunk in range(0, blocks, SLOTS):
            stop = min(chunk + SLOTS, blocks)
            inside, following = np.int64(0), np.int64(0)
            for i in range(start - 1, end):
                inside, following = following, np.int64(0)
                if fast and i + 1 < end:
                    row, limit = found_row(maps, limits, i + 1 - start)
                    low, high = touching(limit, chunk, stop)
                    where = (n, i + 1, low, high, first_slot(chunk, i + 1), columns)
                    following = place(source, padding, mode, zero, coords, row, limit, where, slots)
                    soon(task, following, slots)
                if i < start:
                    continue
                row, limit = found_row(maps, limits, i - start)
                base = first_slot(chunk, i)
                k, high = touching(limit, chunk, stop)
                while k < high:
                    length = run_length(inside >> (k - base))
                    if length:
                        run(task, row, (i, k, length, k - base), slots)
                        k += length
                        continue
                    rest(task, row, limit, i, k)
                    k += 1

    return inlined(walk)
