"""The answer of a search in sentences: the best setting, verdicts, what was verified.

The numbers come from `study` and `stats`.
"""
