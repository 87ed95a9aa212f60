"""Workers' rows: live and lost workers, and the control state that the user sets.

Their processes are in `search.workers`.
"""
