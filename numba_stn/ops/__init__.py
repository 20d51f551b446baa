"""The public operations on batches: grids, ``grid_sample``, warps, and their derivatives.

Begin with :mod:`.grid_sample` and :mod:`.warps`. :mod:`.validate` checks the arguments of every
operation, :mod:`.sampler` calls the kernels, and :mod:`.docstrings` has the docstring entries that
the operations share.
"""
