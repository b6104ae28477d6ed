"""What the cluster shares of calls of tools: their log, results that answer equal calls, effects that are had once."""
