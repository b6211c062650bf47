"""What a transport says when a wire fails, in one voice: both ends, the seconds, the next move."""

from collections.abc import Iterable

from pipeline.errors import TransportTimeout
from workers.transport import Edge

__all__ = ["gone", "no_room", "no_edge", "not_connected", "not_taken", "nothing_came"]


def _both(edge: Edge) -> str:
    """Both ends, the direction between them."""
    return f"stage {edge.src} -> stage {edge.dst}"


def no_edge(stage_index: int, peer: int, peers: Iterable[int]) -> ValueError:
    """There is no open wire between two stages."""
    known = ", ".join(str(p) for p in sorted(peers)) or "none, the transport is closed or has no wire this way"
    return ValueError(
        f"stage {stage_index} has no open wire of this direction with stage {peer} (given: {peer}, "
        f"expected: {known}). Name the edge in the Endpoint of every stage."
    )


def not_connected(edge: Edge, missing: int, timeout: float) -> TransportTimeout:
    """The other end did not come while the wires were opened."""
    return TransportTimeout(
        f"{_both(edge)}: stage {missing} did not open its end within {timeout:g} s. "
        "See whether its process started; its own error comes first."
    )


def no_room(edge: Edge, timeout: float) -> TransportTimeout:
    """The queue stayed full."""
    return TransportTimeout(
        f"{_both(edge)}: no room within {timeout:g} s (queue depth: {edge.depth}). "
        f"See what keeps stage {edge.dst} from receiving, or allow more time."
    )


def nothing_came(edge: Edge, timeout: float) -> TransportTimeout:
    """The queue stayed empty."""
    return TransportTimeout(
        f"{_both(edge)}: nothing came within {timeout:g} s. "
        f"See what keeps stage {edge.src} from sending, or allow more time."
    )


def gone(edge: Edge, stage_index: int) -> TransportTimeout:
    """The process at the other end closed the wire or died."""
    return TransportTimeout(
        f"{_both(edge)}: stage {stage_index} is gone, its end of the wire was closed. "
        f"See the error of stage {stage_index}; it came first."
    )


def not_taken(edge: Edge, timeout: float) -> TransportTimeout:
    """A sender closed, and its receiver did not take what was under way."""
    return TransportTimeout(
        f"{_both(edge)}: stage {edge.dst} did not take all that was sent within {timeout:g} s. "
        f"See what keeps stage {edge.dst} from receiving, or call abort()."
    )
