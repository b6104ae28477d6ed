"""Agents that are language models: what they are made of, and the loop that asks them and calls their tools."""
