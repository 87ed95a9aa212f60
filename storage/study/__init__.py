"""A study's rows: its record, trials, epochs, predictions, confirmations and mirrors.

Checkpoints and stages are in `stages`, the workers' rows in `workers`.
"""
