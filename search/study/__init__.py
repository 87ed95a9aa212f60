"""What a study is asked for and began with: its plan, its record, checks before the first trial.

The tables are in `storage.study`, trials are chosen in `scheduling`.
"""
