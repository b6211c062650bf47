"""The same config under several modes, in turns, on the same seeds and cores: what each reaches, takes and holds."""
