"""Which trial is next, and whether it goes on after an epoch: samplers, pruners, promotion.

It trains nothing and starts no worker; a trial at work is in `trial`.
"""
