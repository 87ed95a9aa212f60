"""Reading files from folders and buckets, in threads; folders that appear whole or not at all.

It knows nothing of images and labels.
"""
