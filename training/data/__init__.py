"""Label files, splits, the cache of decoded images, loading and augmentation."""
