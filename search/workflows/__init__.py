"""What a command does from start to end: search, confirm, tabulate, train, predict and others.

Options are in `cli`; what several workflows need is in a room of its own.
"""
