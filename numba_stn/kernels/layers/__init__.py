"""CPU kernels of network layers: convolution, pooling, batch normalisation.

Begin with :mod:`.batch_blocks`, the memory layout that they share.
"""
