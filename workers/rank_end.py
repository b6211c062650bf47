"""The end of a rank before the ranks have met: those of other hosts wait for it, and have a terminal of their own."""

import os
import platform
from contextlib import suppress
from typing import TYPE_CHECKING

from pipeline.errors import ConfigError
from workers.host.parent import die_with_parent

if TYPE_CHECKING:
    from workers.ranks import Ranks

__all__ = ["tell_other_hosts"]

_PATIENCE_S = 60.0
"""Seconds in which the others have to come: torchrun starts all hosts' ranks together, but some read torch slowly."""
_REPORT_S = 10.0
"""Seconds that rank 0 has to take down why this one ends."""


def tell_other_hosts(text: str, code: int) -> None:
    """Tells the ranks of other hosts why this one ends, so that they end, too; called where it is said here.

    Rank 0 answers those who come with the reason in place of jobs; another one comes to rank 0 with it. So ranks that
    all find the same mistake, as they do one in the command, do not wait for each other either. Does nothing where all
    are on one host, whose torchrun ends them, and where the ranks have met: rank 0 knows the others then. Who cannot be
    told, for want of a key or of time, finds torchrun's store gone.

    Args:
        text: why.
        code: exit status: 2 for what the user can mend. Another one than 1 or 2 is that of a signal, which torchrun's
            agents hear of by themselves.
    """
    read = os.environ.get
    if read("RANK") is None or read("WORLD_SIZE", "1") == read("LOCAL_WORLD_SIZE", "1") or code not in (1, 2):
        return
    die_with_parent()  # torchrun's agent
    from workers.agent_store import is_lost  # here, since importing torch takes a second or two
    from workers.ranks import Ranks

    ranks = Ranks.from_environment()
    if ranks is None or Ranks.have_met or is_lost():
        return
    Ranks.have_met = True  # whatever comes of it: nobody is waited for twice
    with suppress(Exception, KeyboardInterrupt):
        (_answer if ranks.rank == 0 else _report)(ranks, ConfigError(text) if code == 2 else RuntimeError(text))


def _answer(ranks: "Ranks", end: Exception) -> None:
    """Tells all ranks that come, on rank 0."""
    from workers.rank_lines import RankLines
    from workers.ranks import store_of

    RankLines(store_of(ranks), ranks.num_ranks, _PATIENCE_S, alone=False, end=end)


def _report(ranks: "Ranks", end: Exception) -> None:
    """Tells rank 0, on another rank."""
    from workers import messages
    from workers.rank_0 import find_rank_0
    from workers.run_key import given_key

    given_key(alone=False)  # before anybody is waited for
    _, line, _ = find_rank_0(ranks, None, _PATIENCE_S)
    if line.connection.poll(_PATIENCE_S):
        line.receive()  # its job, or that there is none
        text = f"{platform.node()}: {end}"
        body = {"stage": ranks.rank, "kind": type(end).__name__, "message": text, "text": text}
        messages.send(line.connection, "failed", body)
        line.connection.poll(_REPORT_S)
