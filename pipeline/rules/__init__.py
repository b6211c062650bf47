"""The learning rules, a file each; its name is the config's. See ``docs/rules.md``."""
