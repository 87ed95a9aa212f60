"""Decoded images: in one memory-mapped file, in a device's memory, and on their way there.

Files are decoded in `data.images`.
"""
