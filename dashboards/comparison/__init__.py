"""Trials side by side, as a page and on a terminal.

The statistical tests are in `stats`.
"""
