"""Dry run: the real stages and transport on synthetic data, to predict throughput and refine the partition."""
