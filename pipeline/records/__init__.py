"""What a run leaves behind: time budgets and traces, the run's record and state, weights."""
