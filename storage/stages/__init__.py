"""The stage tree: metrics, leases and checkpoints of each epoch, and which checkpoint goes first.

Trials use it in `search.trial`.
"""
