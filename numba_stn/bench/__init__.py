"""Benchmarks against other libraries, for ``numba-stn bench`` and for asv.

A row of the comparison is work that several libraries do: see :mod:`.rows`.
``numba-stn bench`` times the libraries in alternating rounds (:mod:`.report`). The suites of asv,
in benchmarks/benchmarks, time the same work for each commit of the history.

The suites import this folder by itself, next to the numba_stn of any commit. So modules here import
one another relatively and numba_stn absolutely, and they look up functions that an old commit may
lack when a row is set up, not when it is imported.
"""
