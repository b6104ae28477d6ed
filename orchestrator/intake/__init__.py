"""How runs come in: checked, created, sent."""
