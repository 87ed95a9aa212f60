"""The commands of `canopy`: one file for each, named like it, with its options.

What a command does is in `workflows`; a command imports it when it is called.
"""
