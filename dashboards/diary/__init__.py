"""EXPERIMENTS.md: the study as a lab notebook that keeps the user's own notes.

What it says is in the template `diary.md.j2`; the answer of a search is in `answer`.
"""
