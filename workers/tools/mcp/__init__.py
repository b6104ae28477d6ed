"""Tools of MCP servers: started or reached by the worker that needs them, and called like all others."""
