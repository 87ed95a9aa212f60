"""The read model of a study: its trials, its baseline, its confirmation.

Texts and charts belong in other folders.
"""
