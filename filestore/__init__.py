"""Files in a folder, a bucket or anything else that fsspec has a file system for."""
