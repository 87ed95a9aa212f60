"""Workers as jobs of SLURM, or of submitit's local executor.

What a job runs is a worker like any other.
"""
