"""A transport between stages that are told to be on two hosts, every other one on each: both kinds of edges in one
pipeline, and with two stages the one between hosts."""

from dataclasses import replace

from workers.transports import mixed

CAPABILITIES = mixed.CAPABILITIES


def build(endpoint):
    """As if even stages were on one host and odd ones on another."""
    return mixed.build(replace(endpoint, hosts=tuple(stage % 2 for stage in range(endpoint.num_stages))))


build.CAPABILITIES = CAPABILITIES
