"""Database URLs, engines, retries, and connections where they are scarce.

Nothing here knows a table.
"""
