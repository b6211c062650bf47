"""What a run will cost before it starts: costs of blocks, partitions, predictions."""
