"""Our tables, their migrations, and the check that they are the ones this version needs.

Rows are read and written in `study`, `workers` and `stages`.
"""
