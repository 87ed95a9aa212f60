"""What a search will take: time, disk and memory, before it begins (``canopy plan``)."""
