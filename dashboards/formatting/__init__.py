"""How values are written: numbers, settings, tables for a terminal, Markdown.

Whole sentences about a study are in `answer`.
"""
