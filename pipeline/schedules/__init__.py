"""When what is done: schedules, plans of an epoch, the order of actions, batches and micro-batches."""
