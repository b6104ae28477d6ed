"""How much an agent is told at most, and what is cut first where that is more."""
