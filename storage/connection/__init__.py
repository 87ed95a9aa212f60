"""Database URLs, engines, retries, and the connection throttle.

Nothing here knows a table.
"""
