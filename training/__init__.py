"""One training run; imports nothing from searches, databases or experiment trackers."""
