import re
import sys
from types import SimpleNamespace

import pytest
from tests.support.stage_programs import endpoint_of

from pipeline.errors import ConfigError
from pipeline.registry import known
from workers.transport import PACKAGE, Capabilities, Devices, InProcessTransport, Reach, capabilities_of, open_transport
from workers.transports import inline

HOST_ONLY, ON_CPU = Capabilities(Reach.HOST), Capabilities(devices=Devices.CPU)


@pytest.fixture
def own(monkeypatch):
    """A module of the user's by the name ``own``, with these attributes."""

    def make(**attributes):
        module = SimpleNamespace(build=lambda endpoint: "opened", **attributes)
        monkeypatch.setitem(sys.modules, "own", SimpleNamespace())
        monkeypatch.setitem(sys.modules, "own.way", module)

    return make


def test_every_transport_declares_itself():
    declared = [capabilities_of(name) for name in known(PACKAGE)]
    assert all(vars(sys.modules[f"{PACKAGE}.{name}"])["CAPABILITIES"] is c for name, c in zip(known(PACKAGE), declared))
    orders = [c.auto_order for c in declared if c.auto_order is not None]
    assert len(set(orders)) == len(orders) > 0


def test_a_transport_of_the_users_that_declares_nothing_connects_any_stages(own):
    own()
    assert capabilities_of("own.way") == Capabilities(Reach.ANYWHERE, Devices.ALL, needs_group=False, auto_order=None)
    assert all(device in Devices.ALL for device in Devices)


def test_the_declaration_is_that_of_the_module_or_of_the_attribute(own):
    own(CAPABILITIES=HOST_ONLY, Plain=SimpleNamespace(), Declared=SimpleNamespace(CAPABILITIES=ON_CPU))
    names = ("own.way", "own.way.Plain", "own.way.Declared", "workers.transports.inline.build")
    assert [capabilities_of(name) for name in names] == [HOST_ONLY, HOST_ONLY, ON_CPU, inline.CAPABILITIES]


@pytest.mark.parametrize("declared", [{"reach": "host"}, "host", None])
def test_a_declaration_of_another_kind(declared, own):
    own(CAPABILITIES=declared)
    text = (
        f"the transport 'own.way' declares no capabilities (given: CAPABILITIES = {declared!r}, expected: a "
        "workers.transport.Capabilities). Correct the declaration, or remove it to have the defaults."
    )
    with pytest.raises(ConfigError, match=re.escape(text)):
        capabilities_of("own.way")


@pytest.mark.parametrize("ask", [capabilities_of, lambda name: open_transport(name, None)])
def test_a_transport_that_is_not_there(ask):
    with pytest.raises(ConfigError, match=r"unknown transport \(given: 'pigeon', expected: inline, "):
        ask("pigeon")


def test_opens_by_name(own, tmp_path):
    own()
    assert open_transport("own.way", endpoint_of(0, tmp_path, [])) == "opened"
    end = open_transport("inline", endpoint_of(0, tmp_path, []))
    assert isinstance(end, InProcessTransport)
    end.close(0.0)
