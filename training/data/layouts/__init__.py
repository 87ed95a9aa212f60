"""Layouts of published data sets, each read to the columns image_name, tags or labels, and split.

One file for each layout; `recognise` chooses.
"""
