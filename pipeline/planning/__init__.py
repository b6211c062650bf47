"""Costs of a run before it starts: of blocks, partitions, predictions."""
