"""Reading files from folders and buckets, in threads; folders built atomically.

Nothing about images or labels.
"""
