"""The contract of a learning rule, and what rules are built from.

The rules themselves are the files of :mod:`pipeline.rules`.
"""
