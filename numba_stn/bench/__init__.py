"""Speed against the peers, for ``numba-stn bench`` and for asv.

A row of the comparison is some work that several libraries do: see :mod:`.rows`. The command times
them in turn (:mod:`.report`); asv, whose ``benchmark_dir`` this folder is, follows the same rows
through the history (:mod:`.suites`). asv imports the folder by itself, beside whichever commit's
numba_stn is installed. So modules here import one another relatively and numba_stn absolutely, and
what an old commit may lack is looked up when a row is set up, not when it is imported.
"""
