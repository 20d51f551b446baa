"""Training runs: one experiment, its folder and checkpoints, the paper's table, prediction.

Begin with :mod:`.experiment`, one run from configuration to metrics. :mod:`.runs` keeps a run in a
folder and resumes it. :mod:`.table1` is the paper's table.
"""
