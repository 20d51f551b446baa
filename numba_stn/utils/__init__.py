"""Helpers for all packages: array namespaces, progress, commits, atomic writing, locks, schemas.

Begin with :mod:`.namespace`.
"""
