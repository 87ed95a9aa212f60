"""The embedded Postgres: its programs, its process, and the account that it runs as.

Clients are in `connection`.
"""
