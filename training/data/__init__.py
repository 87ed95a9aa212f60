"""Label files, splits, the decoded cache, loading and augmentation."""
