"""optuna-dashboard as it is, with Canopy's note and figures in a study, and Canopy's own pages.

Figures are drawn in `charts`, the live page in `report`.
"""
