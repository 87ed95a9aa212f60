"""optuna-dashboard over a view of the studies, to which notes, figures and files are added."""
