"""EXPERIMENTS.md: the study as a lab notebook, which keeps what a person wrote into it.

What the search answers is in `answer`.
"""
