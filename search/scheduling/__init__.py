"""Chooses the next trial and decides after each epoch: samplers, pruners, promotion.

It trains nothing and starts no worker; running a trial is in `trial`.
"""
