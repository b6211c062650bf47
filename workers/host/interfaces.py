"""The network interface behind an address of this host: the one that other hosts can reach."""

import os
from ipaddress import ip_address

import psutil

__all__ = ["GLOO", "NCCL", "interface_of", "use_interface"]

GLOO = "GLOO_SOCKET_IFNAME"
"""The variable in which gloo is told. By itself it takes whatever this host's own name resolves to, which on many
systems is a loopback address: others would never reach it."""
NCCL = "NCCL_SOCKET_IFNAME"
"""The same for nccl, which takes the first interface that it finds, and the names in it for beginnings of names, but
for one behind ``=``."""


def interface_of(address: str) -> str | None:
    """The interface that has ``address``; None where none has."""
    found: dict[str, list[str]] = {
        name: [entry.address.partition("%")[0] for entry in entries] for name, entries in psutil.net_if_addrs().items()
    }
    return next((name for name, addresses in found.items() if address in addresses), None)


def use_interface(address: str) -> None:
    """Has gloo and nccl listen where ``address`` is, each unless the user has said where, or no other host could reach
    it there."""
    name = interface_of(address)
    if name is not None and not ip_address(address).is_loopback:
        os.environ.setdefault(GLOO, name)
        os.environ.setdefault(NCCL, f"={name}")
