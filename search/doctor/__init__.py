"""The checks of `canopy doctor`: one file for each part of a search's environment.

A check changes nothing.
"""
