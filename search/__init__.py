"""What a person starts: commands, and all that they do to a study.

What only reads a study to show it is in `dashboards`, one training run is in `training`.
"""
