"""Errors of a failed edge, the same in all transports: both ends, the seconds, the next move."""

from collections.abc import Iterable

from pipeline.errors import TransportTimeout
from workers.transport import Edge

__all__ = ["gone", "no_room", "no_edge", "not_connected", "not_taken", "nothing_came"]


def _ends(edge: Edge) -> str:
    """``stage 0 -> stage 1``."""
    return f"stage {edge.src} -> stage {edge.dst}"


def no_edge(stage_index: int, peer: int, peers: Iterable[int]) -> ValueError:
    """No open edge of this direction joins two stages."""
    known = ", ".join(str(p) for p in sorted(peers)) or "none, the transport is closed or has no edge this way"
    return ValueError(
        f"stage {stage_index} has no open edge of this direction with stage {peer} (given: {peer}, "
        f"expected: {known}). Name the edge in the Endpoint of every stage."
    )


def not_connected(edge: Edge, missing: int, timeout: float) -> TransportTimeout:
    """The other end did not come while the edges were opened."""
    return TransportTimeout(
        f"{_ends(edge)}: stage {missing} did not open its end within {timeout:g} s. "
        "See whether its process started; its own error comes first, or raise run.start_timeout_s."
    )


def no_room(edge: Edge, timeout: float) -> TransportTimeout:
    """The queue stayed full."""
    return TransportTimeout(
        f"{_ends(edge)}: no room within {timeout:g} s (queue depth: {edge.depth}). "
        f"See what keeps stage {edge.dst} from receiving, or allow more time."
    )


def nothing_came(edge: Edge, timeout: float) -> TransportTimeout:
    """The queue stayed empty."""
    return TransportTimeout(
        f"{_ends(edge)}: nothing came within {timeout:g} s. "
        f"See what keeps stage {edge.src} from sending, or allow more time."
    )


def gone(edge: Edge, stage_index: int) -> TransportTimeout:
    """The process at the other end closed the edge or died."""
    return TransportTimeout(
        f"{_ends(edge)}: stage {stage_index} is gone, its end of the edge was closed. "
        f"See the error of stage {stage_index}; it came first."
    )


def not_taken(edge: Edge, timeout: float) -> TransportTimeout:
    """A sender closed, and its receiver did not take what was in flight."""
    return TransportTimeout(
        f"{_ends(edge)}: stage {edge.dst} did not take all that was sent within {timeout:g} s. "
        f"See what keeps stage {edge.dst} from receiving, or call abort()."
    )
