"""The output of `canopy status`, printed once or refreshed.

The study is read in `study`.
"""
