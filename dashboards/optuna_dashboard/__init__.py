"""optuna-dashboard with Canopy's notes, figures and files.

Figures are drawn in `charts`.
"""
