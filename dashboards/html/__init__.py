"""A page in one HTML file: its parts, its template, styles and script.

What is on a page is in `report` and `comparison`.
"""
