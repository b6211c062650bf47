"""``--sweep``: one config over the values of some keys, several seeds of each, several runs at once."""
