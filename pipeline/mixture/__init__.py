"""What single blocks have of their own in a run: rules, optimizers, and where their feedback comes from."""
