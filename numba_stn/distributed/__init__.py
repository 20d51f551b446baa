"""Work larger than memory or than one machine: stacks of images, Dask clusters, runs on them.

Begin with :mod:`.image_stacks`, which warps a stack chunk by chunk.
"""
