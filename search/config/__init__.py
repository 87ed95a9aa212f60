"""What canopy.yaml says: settings, the search space, errors in words, a template for a new one.

The file is read and checked whole in `study.configuration`; samplers are made in `scheduling`.
"""
