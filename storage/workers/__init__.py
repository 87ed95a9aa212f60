"""Workers' rows: who works, who is lost, and what a person wants of them.

Their processes are in `search.workers`.
"""
