"""The ClearML mirror as a process of its own, beside a search or alone."""
