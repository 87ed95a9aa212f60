"""Charts of a study: each module computes one thing, draws it, and describes it in a sentence."""
