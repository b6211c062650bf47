"""Whoever listens to a run, in threads beside it: the user's hooks, and loggers. None of them is waited for."""
