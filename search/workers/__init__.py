"""Worker processes: their loop, and the backends that start them, here, on Ray or by SLURM.

What a worker does with a trial is in `trial`.
"""
