"""The arms of the throughput benchmark: ours, and what a user would pick instead."""
