"""Launchers of stages: as processes of this host, or all in this process."""
