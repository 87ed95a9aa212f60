"""One self-contained HTML page: its parts, template, styles and script.

The content of pages is in `report` and `comparison`.
"""
