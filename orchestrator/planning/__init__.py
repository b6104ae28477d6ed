"""What a workflow can cost at most, and how it looks, before it starts."""
