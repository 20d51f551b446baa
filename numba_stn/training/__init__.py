"""Training runs: one experiment, its folder and checkpoints, the paper's table, prediction.

Begin with :mod:`.experiment`, one run from configuration to metrics; :mod:`.runs` gives it a folder
and resumes it.
"""
