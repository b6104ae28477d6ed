"""What agents may have done for them: how a tool is declared, and what becomes of each call of it."""
