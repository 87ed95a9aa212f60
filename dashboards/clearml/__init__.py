"""Mirrors studies to ClearML: compares Postgres with what was sent, and sends the difference."""
