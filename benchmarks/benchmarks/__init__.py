"""The suites of asv: one class for each operation of numba_stn.

``time_...`` is the time of numba_stn; ``track_opencv``, ``track_pytorch`` and so on are a library's
time divided by it, measured in alternating rounds: above 1, numba_stn is faster. The work is that
of ``numba-stn bench``, through public functions only, so that these suites measure every commit.
asv skips what the installed commit, or this machine, lacks.

Begin with :mod:`.common`; :mod:`.warps` has the warps of batches, :mod:`.images` the functions of
single images, :mod:`.operations` the others, :mod:`.training` and :mod:`.processes` training steps,
start-up and memory.
"""
