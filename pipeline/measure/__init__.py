"""Measurements of a trained network: angles to backpropagation, linear probes, decision maps, t-SNE."""
