"""How stages are started: as processes of this host, or all in this process."""
