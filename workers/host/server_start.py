"""Imported by the fork server before anything else: the server ends with the process that started it.

While it imports torch, for seconds, it does not look at the line whose end would tell it.
"""

import os

from workers.host.parent import die_with_parent

PARENT = "ONWARD_SERVER_PARENT"
"""Environment variable with the id of that process."""

if PARENT in os.environ:
    die_with_parent(int(os.environ.pop(PARENT)))
