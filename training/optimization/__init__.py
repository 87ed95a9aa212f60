"""Losses, optimizers, schedules and gradient accumulation.

Nothing about data sets or device memory.
"""
