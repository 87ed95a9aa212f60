"""Our tables, their migrations, and the check that this version supports them.

Rows are read and written in `study`, `workers` and `stages`.
"""
