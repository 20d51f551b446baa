"""Helpers of every package: array namespaces, records of a result's origin, progress bars.

Begin with :mod:`.namespace`.
"""
