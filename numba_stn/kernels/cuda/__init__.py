"""The CUDA kernels, under the names of :mod:`numba_stn.kernels.cpu`.

Start with :mod:`.backend`, which has the functions that the public operations call, and a table of
the modules.
"""
