"""The public operations on batches: grids, ``grid_sample``, warps, and their derivatives.

Begin with :mod:`.grid_sample` and :mod:`.warps`. :mod:`.sampler` has the two passes that every
operation goes through, and :mod:`.validate` the checks of their arguments.
"""
