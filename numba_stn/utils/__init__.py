"""Helpers for all packages: array namespaces, progress bars, commits and atomic writing.

Begin with :mod:`.namespace`.
"""
