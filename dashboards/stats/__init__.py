"""Is a difference real: bootstrap over images, spread over seeds.

Numbers only; the words are in `answer`.
"""
