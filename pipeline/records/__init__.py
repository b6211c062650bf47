"""Records of a run: time budgets and traces, the run's record and state, weights."""
