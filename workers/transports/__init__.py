"""The transports, a file each; its name is the config's."""
