"""LLVM vector code: blocks of 16 pixels of a row at a time.

:mod:`.addresses` computes where a row's interior blocks read; :mod:`.bilinear`,
:mod:`.images_gradient` and :mod:`.interpolation` load those taps and use them. Begin with
:mod:`.addresses`, then :mod:`.bilinear`.
"""
