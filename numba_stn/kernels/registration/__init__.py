"""CPU kernels of registration: the sums of a Gauss-Newton step, and image pyramids.

Begin with :mod:`.alignment_sums`.
"""
