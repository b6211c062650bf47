"""Data sets: what they are, how they are cut into batches and augmented, and the cache of frozen blocks' outputs."""
