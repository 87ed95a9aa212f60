"""Files in a folder, a bucket or any other file system that fsspec supports."""
