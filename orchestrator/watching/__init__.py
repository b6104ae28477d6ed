"""Runs as people and programs see them."""
