"""One module for each revision of our tables."""
