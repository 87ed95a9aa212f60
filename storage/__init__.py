"""Persistent state: the database and the checkpoint files."""
