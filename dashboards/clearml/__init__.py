"""Postgres → ClearML, by reconciliation."""
