"""Workers as SLURM jobs, or as jobs of submitit's local executor.

A job runs an ordinary worker.
"""
