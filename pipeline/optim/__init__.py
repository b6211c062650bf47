"""Optimizers and the learning rate's course."""
