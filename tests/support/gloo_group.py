"""The process group with torch's own send and receive in place of streams, by dotted name: as over nccl on GPUs."""

from workers.transports import process_group

CAPABILITIES = process_group.CAPABILITIES


def build(endpoint):
    """The transport, its payload over gloo."""
    return process_group.build(endpoint, payload="gloo")
