"""Runs one trial: follows its path in the stage tree, reports epochs and writes checkpoints.

The decision to stop or pause is made in `scheduling`.
"""
