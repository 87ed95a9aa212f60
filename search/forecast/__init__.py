"""Estimates of a search's time, disk and memory before it starts (``canopy plan``).

Replaying searches on known curves belongs in `simulation`.
"""
