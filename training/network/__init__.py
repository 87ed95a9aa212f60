"""Networks by name, model files, thresholds.

The training loop is in `run`, prediction in `prediction`.
"""
