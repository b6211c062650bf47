"""What a run has trained, as a module: built again from its folder or from a file, scored, and asked for answers."""
