"""How values are written: numbers, settings, terminal tables, Markdown.

Whole sentences about a study belong in `answer`.
"""
