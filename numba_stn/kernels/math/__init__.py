"""The scalar math of every sampler, which CPU and CUDA kernels both call: numbers in, numbers out.

Begin with :mod:`.coordinates`; then :mod:`.padding` (what lies outside the image) and
:mod:`.interpolation` (taps and their weights).
"""
