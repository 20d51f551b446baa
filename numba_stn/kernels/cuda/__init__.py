"""The GPU's kernels, under the names of :mod:`numba_stn.kernels.cpu`.

Begin with :mod:`.backend`, which lists what the public operations call; :mod:`.device` has arrays,
streams and launches.
"""
