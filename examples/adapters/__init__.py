"""One agent of each framework as an agent of Baton. See the modules of this folder."""
