"""One training run; knows nothing of searches, databases and trackers."""
