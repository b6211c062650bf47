"""What is measured of a trained network: angles to backpropagation, linear probes, maps, t-SNE."""
