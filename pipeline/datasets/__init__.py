"""The data sets, a file each; its name is the config's."""
