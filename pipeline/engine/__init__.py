"""The work of one stage: its blocks, what is in flight between forward and learning, and its program."""
