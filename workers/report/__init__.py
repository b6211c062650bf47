"""``--report``: one page about runs, for a browser; and the readers of their folders."""
