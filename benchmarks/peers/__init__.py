"""Other ways of doing the same search, and Canopy beside them.

``python -m benchmarks.peers`` runs them and prints the tables; each peer is a script of its own.
"""
