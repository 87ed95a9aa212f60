"""The stage tree: what each epoch gave, who trains it, its checkpoint, and which one goes first.

What a trial does with it is in `search.trial`.
"""
