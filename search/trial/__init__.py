"""One trial at work: it walks the stage tree, reports its epochs and keeps its checkpoints.

What decides that it stops or pauses is in `scheduling`.
"""
