"""What a command does from start to end: search, confirm, tabulate, train, predict and others.

Options are in `cli`; code that several workflows share is in the other folders of `search`.
"""
