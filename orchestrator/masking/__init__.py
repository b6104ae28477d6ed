"""What may not be stored or shown as it is: how it looks, and what stands in its place."""
