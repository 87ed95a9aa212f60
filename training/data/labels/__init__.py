"""Label files: their rows, their columns, their targets, and the images that they name.

Splits are made in `data.splits`.
"""
