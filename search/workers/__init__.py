"""Worker processes: their loop, and the backends that start them locally, on Ray or with SLURM.

How a worker runs a trial is in `trial`.
"""
