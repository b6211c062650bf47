"""Shared memory: a ring of slots, and the tokens over a Unix socket that hand them over."""
