"""The top floor: what a person starts."""
