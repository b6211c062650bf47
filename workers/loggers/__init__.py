"""Loggers, a file each: ``build(run, rows)`` writes what a run's record says, for as long as ``rows`` go on."""
