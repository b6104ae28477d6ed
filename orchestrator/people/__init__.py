"""What people are asked and decide, and how they are told."""
