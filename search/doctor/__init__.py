"""What `canopy doctor` checks: a file for each part of the surroundings of a search.

A check changes nothing.
"""
