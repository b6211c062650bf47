"""Training on the whole training set at once, in one process: what online alternating minimisation is compared with."""
