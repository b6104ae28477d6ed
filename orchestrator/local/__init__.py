"""The whole stack on one machine: real servers from wheels, and the processes that use them."""
