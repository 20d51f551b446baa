"""CPU kernels of registration: sums of one alignment step, and image pyramids.

Begin with :mod:`.alignment_sums`.
"""
