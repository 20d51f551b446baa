"""LLVM vector code: 16 pixels of a row at a time.

Begin with :mod:`.addresses`, which finds where blocks read; :mod:`.bilinear` and :mod:`.any_mode`
load, weight and store them.
"""
