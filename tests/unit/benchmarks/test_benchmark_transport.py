"""The transport benchmark: small, from end to end."""

import json

import pytest
import torch

from benchmarks import transport


def test_repeats_fit_the_time_within_limits():
    assert transport.repeats(0.01, 0.3) == 30
    assert transport.repeats(10.0, 0.3) == 5
    assert transport.repeats(1e-6, 0.3) == 10_000


def test_what_came_is_compared_with_what_was_sent():
    """A channel that delivers something else does not go unnoticed."""
    class Peer:
        def recv(self):
            return 1

        def send(self, word):
            assert word == "all"

    class Lossy:
        def recv(self):
            return torch.zeros(4)

        def send(self, body):
            pass

    with pytest.raises(AssertionError, match="what came is not what was sent"):
        transport.follow(Lossy(), torch.full((4,), 2.0), Peer())


def test_every_arm_is_measured_at_every_size(tmp_path, capsys):
    assert transport.main(["--quick", "--out", str(tmp_path / "t.json")]) == 0
    found = json.loads((tmp_path / "t.json").read_text())
    assert list(found["arms"]) == list(transport.ARMS) and found["sizes"] == [4096, 65536]
    for by_size in found["arms"].values():
        assert list(by_size) == ["4096", "65536"]
        assert all(cell[key]["median"] > 0 for cell in by_size.values() for key in ("latency_s", "bytes_per_s"))
    arms, ratios = found["arms"], found["ratios"]
    ours, gloo = arms["shared_memory"]["4096"], arms["gloo"]["4096"]
    assert ratios["gloo"]["4096"]["latency"]["median"] == gloo["latency_s"]["median"] / ours["latency_s"]["median"]
    bandwidth = ours["bytes_per_s"]["median"] / gloo["bytes_per_s"]["median"]
    assert ratios["gloo"]["4096"]["bandwidth"]["all"] == [bandwidth]
    group, over = arms["process_group"]["4096"], found["over_gloo"]["process_group"]["4096"]
    assert over["latency"]["median"] == group["latency_s"]["median"] / gloo["latency_s"]["median"]
    assert over["bandwidth"]["median"] == group["bytes_per_s"]["median"] / gloo["bytes_per_s"]["median"]
    assert found["environment"]["threads"] == 1
    assert "shared_memory against gloo" in capsys.readouterr().out
