"""What a study shows: each module computes one thing, draws it, and says it in a sentence."""
