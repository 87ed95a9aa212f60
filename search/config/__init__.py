"""canopy.yaml: settings, the search space, validation messages, and a template for a new file.

`study.configuration` reads and checks a whole file; `scheduling` creates samplers.
"""
