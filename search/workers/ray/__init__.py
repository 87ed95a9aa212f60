"""Workers as actors of a Ray cluster.

Ray is imported in the driver's and the actors' processes alone.
"""
