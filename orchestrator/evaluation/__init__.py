"""Evaluations: a file of cases goes through a workflow as real runs, and a check says how good what comes out is."""
