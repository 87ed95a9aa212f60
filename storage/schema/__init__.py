"""Our tables, their creation, and the check that this version supports them.

Rows are read and written in `study`, `workers` and `stages`.
"""
