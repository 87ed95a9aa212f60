"""Trials side by side, as a page and on a terminal.

The tests behind it are in `stats`.
"""
