"""optuna-dashboard, with our notes, figures and files beside each trial.

Figures are drawn in `charts`.
"""
