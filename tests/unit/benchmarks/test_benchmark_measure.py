"""What benchmarks share."""

import json
import os
import signal
import time

import pytest
import torch

from benchmarks import harness


def test_arms_take_turns_forward_and_backward():
    order = []
    found = harness.take_turns({n: lambda n=n: order.append(n) or float(len(order)) for n in "abc"}, rounds=2)
    assert order == ["a", "b", "c", "c", "b", "a"]
    assert found == {"a": [1.0, 6.0], "b": [2.0, 5.0], "c": [3.0, 4.0]}


def test_ratios_are_taken_round_by_round():
    assert harness.ratio([2.0, 8.0, 3.0], [1.0, 2.0, 1.0]) == {
        "median": 3.0, "min": 2.0, "max": 4.0, "all": [2.0, 4.0, 3.0],
    }  # fmt: skip


def test_the_environment_names_the_command_and_what_figures_depend_on(tmp_path):
    told = ["--quick", "--out", str(tmp_path / "f.json"), f"--in={tmp_path / 'g.json'}",
            f"--set=data.path={tmp_path / 'h'}", f"path={tmp_path / 'i'}"]  # fmt: skip
    found = harness.environment("benchmarks.transport", told, threads=1)
    assert found["command"] == ["python", "-m", "benchmarks.transport", "--quick", "--out", "f.json", "--in=g.json",
                                "--set=data.path=h", "path=i"]  # fmt: skip
    assert found["threads"] == 1 and {"versions", "commit", "cpu", "cores", "matmul_precision"} <= set(found)
    assert "config" not in found
    harness.write(tmp_path / "f.json", {"environment": found})
    assert json.loads((tmp_path / "f.json").read_text())["environment"]["threads"] == 1
    harness.write(None, {})


def test_the_environment_names_the_instructions_and_what_keeps_torch_from_others(monkeypatch):
    for name in ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS"):
        monkeypatch.delenv(name, raising=False)
    found = harness.environment("benchmarks.throughput", [])
    assert found["instructions"] == torch.backends.cpu.get_cpu_capability() and found["limits"] == {}
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert harness.environment("benchmarks.throughput", [])["limits"] == {"ONEDNN_MAX_CPU_ISA": "AVX2"}


def test_a_termination_leaves_by_way_of_an_exception():
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        for number, status in ((signal.SIGTERM, "143"), (signal.SIGHUP, "129")):
            signal.signal(number, signal.SIG_DFL)
            harness.leave_on_sigterm()
            with pytest.raises(SystemExit, match=status):
                os.kill(os.getpid(), number)
                time.sleep(5)  # the handler runs in here at the latest
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        harness.leave_on_sigterm()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN  # nohup
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
