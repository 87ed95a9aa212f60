"""The report of a study: what is on its page, and in which order.

Parts of pages are in `html`, figures in `charts`, sentences in `answer`.
"""
