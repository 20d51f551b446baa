"""The CPU's kernels: loops over tiles and rows, compiled serial and parallel.

Begin with :mod:`.backend`, which lists what the public operations call; :mod:`.simd` has the vector
code of their inner blocks.
"""
