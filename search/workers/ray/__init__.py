"""Workers as actors of a Ray cluster.

Only the processes of the driver and of the actors import Ray.
"""
