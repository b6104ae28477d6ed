"""Tools that come with Baton. Each is made for one agent, with what it may reach: nothing is reachable by default."""
