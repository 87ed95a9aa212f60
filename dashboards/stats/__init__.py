"""Whether a difference is real: bootstrap over images, spread over seeds.

Numbers only; sentences belong in `answer`.
"""
