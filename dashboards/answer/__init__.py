"""What a search answers, in sentences: the best setting, verdicts, what was verified.

The numbers come from `study` and `stats`.
"""
