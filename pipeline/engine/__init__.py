"""What one stage does: its blocks, what is in flight between forward and learning, and its program."""
