"""A study's plan, its record, and the checks before its first trial.

The tables are in `storage.study`, trials are chosen in `scheduling`.
"""
