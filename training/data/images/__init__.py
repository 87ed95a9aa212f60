"""Image files: decoding, digests, augmentation, and skipped images.

Data sets are opened in `data.dataset`.
"""
