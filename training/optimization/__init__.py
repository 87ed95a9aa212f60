"""Losses, optimizers, schedules, and steps in several micro-batches.

They know nothing of data sets and devices' memory.
"""
