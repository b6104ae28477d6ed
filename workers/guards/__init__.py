"""What may not be stored or shown as it is, and what looks as if it wanted to give orders."""
