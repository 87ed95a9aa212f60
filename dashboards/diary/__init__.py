"""EXPERIMENTS.md: the study as a lab notebook that keeps the user's own notes.

The results of a search are in `answer`.
"""
