"""A study as everything here reads it: its trials, its baseline, its confirmation.

Texts and figures of it are made elsewhere.
"""
