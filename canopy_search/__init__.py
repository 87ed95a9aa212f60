"""Canopy: an Optuna hyperparameter search service for multi-label image classifiers.

Its rooms are folders at the top of the repository; here they are links, so that an installation
puts one name into site-packages.
"""
