from types import SimpleNamespace

import pytest

from workers.host import interfaces
from workers.host.interfaces import GLOO, NCCL, interface_of, use_interface

FOUND = {"lo": ["127.0.0.1", "::1"], "eth0": ["10.77.0.1", "fe80::1%eth0"], "ib0": []}


@pytest.fixture(autouse=True)
def network(monkeypatch):
    entries = {name: [SimpleNamespace(address=a) for a in addresses] for name, addresses in FOUND.items()}
    monkeypatch.setattr(interfaces.psutil, "net_if_addrs", lambda: entries)
    for variable in (GLOO, NCCL):
        monkeypatch.setenv(variable, "given")  # so that it is put back
        monkeypatch.delenv(variable)


@pytest.mark.parametrize(
    ("address", "name"), [("127.0.0.1", "lo"), ("10.77.0.1", "eth0"), ("fe80::1", "eth0"), ("10.77.0.2", None)]
)
def test_the_interface_of_an_address(address, name):
    assert interface_of(address) == name


@pytest.mark.parametrize(
    ("given", "address", "expected"),
    [(None, "10.77.0.1", "eth0"), (None, "10.77.0.2", None), ("ib0", "10.77.0.1", "ib0"), (None, "127.0.0.1", None)],
)
@pytest.mark.parametrize(("variable", "before"), [(GLOO, ""), (NCCL, "=")])
def test_gloo_and_nccl_are_told_unless_the_user_has(monkeypatch, variable, before, given, address, expected):
    if given is not None:
        monkeypatch.setenv(variable, given)
        before = ""
    use_interface(address)
    assert interfaces.os.environ.get(variable) == (None if expected is None else before + expected)
