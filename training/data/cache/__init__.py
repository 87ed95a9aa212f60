"""Caches of decoded images: a memory-mapped file, a device's memory, and a decode buffer.

Files are decoded in `data.images`.
"""
