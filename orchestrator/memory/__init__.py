"""What agents remember beyond a run: kept, searched, forgotten."""
