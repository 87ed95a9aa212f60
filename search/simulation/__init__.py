"""Replays searches on known learning curves (tables or landscapes) and compares them.

Nothing here trains or decides: sampler, pruner and budget are the real search's.
"""
