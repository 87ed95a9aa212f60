"""Label files: rows, columns, targets, and the image files that they name.

Splits are made in `data.splits`.
"""
