"""Workflows as they are written down: the Python form, what is checked, and the plan that comes of it."""
