"""Events from outside: how they come in, what is subscribed to them, and the runs that they start."""
