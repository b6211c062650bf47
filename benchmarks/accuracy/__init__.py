"""Published tables and figures, run again: what a cell is, how it is run, kept, judged and printed.

``python -m benchmarks.accuracy`` is the command; the tables themselves stand in :mod:`benchmarks.published`.
"""
