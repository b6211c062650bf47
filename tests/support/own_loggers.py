"""Loggers of a user's own."""

rows = []


def kept(run, given):
    """Keeps all rows."""
    rows[:] = list(given)


def short(run):
    """Takes no rows."""
