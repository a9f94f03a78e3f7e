"""The networks, a decorated function each, and what they cost."""
