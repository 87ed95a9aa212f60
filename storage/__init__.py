"""One place for everything that must survive."""
