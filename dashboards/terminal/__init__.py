"""What `canopy status` shows, once or again and again.

The study is read in `study`.
"""
