"""Image files: decoding, digests, augmentation, and which ones were skipped.

Whole data sets are opened in `data.dataset`.
"""
