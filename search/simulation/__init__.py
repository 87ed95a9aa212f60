"""Searches replayed on learning curves that are known: tables, landscapes, and how they compare.

Nothing here trains, and nothing here decides: sampler, pruner and budget are the real search's.
"""
