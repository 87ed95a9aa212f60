"""Networks by name, model files, thresholds.

The loop that trains them is `run`, the one that only predicts `prediction`.
"""
