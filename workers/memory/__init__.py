"""What agents remember beyond a run, as they see it, and what makes vectors of texts."""
