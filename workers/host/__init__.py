"""This machine: what is on it, how memory is allocated, where processes are forked from."""
