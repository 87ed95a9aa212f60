"""The commands of `canopy`: one file per command, named like the command, with its options.

What a command does is in `workflows`; a command imports it when called.
"""
