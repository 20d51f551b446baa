"""The scalar math of every sampler, which CPU and CUDA kernels both call: numbers in, numbers out.

Begin with :mod:`.coordinates`; :mod:`.interpolation` has taps and weights along one axis.
"""
