"""Planner: what a run will do, simulated from measured stages before it starts."""
