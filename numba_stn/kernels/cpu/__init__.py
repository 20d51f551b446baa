"""CPU kernels: loops over tiles of the output, compiled serial and parallel, forward and backward.

:mod:`.traversal` goes over tiles, rows and blocks; the other modules say what is done with each.
Begin with :mod:`.backend`, which the public operations call, then read :mod:`.bilinear`.
"""
