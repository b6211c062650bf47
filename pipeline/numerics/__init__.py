"""Number formats and random numbers: seeds, autocast, memory layout, digests of tensors."""
