"""Sequential mode: freezing, and a cache that changes the cost and not a bit of the result."""

import json

import pytest
from tests.support.runs import run

pytestmark = pytest.mark.distributed
XOR = {
    "model": {"name": "mlp", "width": [100, 100, 10], "activation": "mish", "norm": "l2"},
    "dataset": {"name": "signed_xor"},
    "rule": {"name": "linear_decoder"},
    "optimizer": {"name": "rprop", "lr": 0.01},
    "train": {"epochs": 12, "batch_size": 1000},
    "schedule": {"mode": "sequential"},
    "run": {"threads": 1, "stages": 1, "partition": "parameters", "timeout_s": 60.0},
    "transport": {"name": "inline"},
}
CONV = {
    **XOR,
    "model": {"name": "tests.support.conv_net.small"},
    "dataset": {"name": "digits"},
    "rule": {"name": "predsim", "dimdec": 128},
    "optimizer": {"name": "adam", "lr": 1e-3},
    "train": {"epochs": 2, "batch_size": 300},
}
DIGITS = {**XOR, "dataset": {"name": "digits"}, "model": {"name": "mlp", "width": 48, "dropout": 0.1},
          "train": {"epochs": 4, "batch_size": 100}, "rule": {"name": "predsim"},
          "optimizer": {"name": "adam", "lr": 1e-3}, "schedule": {"mode": "sequential", "patience": 2,
                                                                 "tolerance": 0.2}}  # fmt: skip


def rows_of(out):
    return [json.loads(line) for line in (out / "record.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("base", [XOR, DIGITS, CONV], ids=["xor", "digits", "conv"])
def test_cache_and_placement_change_no_bit(tmp_path, base):
    off = run(tmp_path / "off", {"schedule": {"cache": "off"}}, base=base)
    assert all(b["epochs_trained"] > 0 for b in off["blocks"])
    for name, stages, transport, cache in [
        ("memory", 1, "inline", "memory"), ("file", 2, "shared_memory", "file"),
        ("blocks", "blocks", "shared_memory", "auto"), ("off2", 2, "process_group", "off"),
    ]:  # fmt: skip
        changes = {"run": {"stages": stages}, "transport": {"name": transport}, "schedule": {"cache": cache}}
        on = run(tmp_path / name, changes, base=base)
        assert on["weights_sha256"] == off["weights_sha256"], name
        assert on["test"] == off["test"] and on["epochs"] == off["epochs"]


def test_blocks_freeze_in_order_and_stay(tmp_path):
    table = run(tmp_path / "run", base=DIGITS)
    trained = [b["epochs_trained"] for b in table["blocks"]]
    assert all(1 <= epochs <= 4 for epochs in trained) and sum(trained) == table["epochs"]
    ends = [sum(trained[: k + 1]) for k in range(3)]
    assert [b["frozen_at_epoch"] for b in table["blocks"]] == [*ends, None]


def test_with_the_cache_frozen_blocks_below_are_not_run(tmp_path):
    """Each phase runs its own block, and in its first epoch the one below; never the ones below that."""
    run(tmp_path / "run", base=DIGITS)
    rows = rows_of(tmp_path / "run")
    active = [[b["block"] for b in row["blocks"]] for row in rows if row["event"] == "epoch"]
    phases = [b[-1] for b in active]
    for epoch, blocks in enumerate(active):
        starts = epoch == 0 or phases[epoch - 1] != phases[epoch]
        block = phases[epoch]
        assert blocks == ([block - 1, block] if starts and block > 0 else [block])


def test_with_augmentation_frozen_blocks_run_forward_only(tmp_path):
    base = {**DIGITS, "dataset": {"name": "digits", "crop_padding": 1}}
    one = run(tmp_path / "one", base=base)
    two = run(tmp_path / "two", {"run": {"stages": "blocks"}, "transport": {"name": "shared_memory"}}, base=base)
    assert one["weights_sha256"] == two["weights_sha256"]
    rows = rows_of(tmp_path / "one")
    last = [row for row in rows if row["event"] == "epoch"][-1]
    assert [b["block"] for b in last["blocks"]] == [0, 1, 2, 3]
    assert [b["trained"] for b in last["blocks"]] == [False, False, False, True]


def test_o_ld4_trained_decoders_solve_signed_xor(tmp_path):
    """O-LD4: trained decoders, one block after another, have 97 % of signed xor right.

    One seed of the 20 that ``benchmarks`` runs: a median of .985 is the bar there.

    Five seeds end between .983 and .988 (standard deviation .002), with AVX-512 and without any: one stays above .97.
    """
    table = run(tmp_path / "run", {"train": {"epochs": 50}, "schedule": {"tolerance": 0.0, "patience": 50}}, base=XOR)
    assert table["test"]["accuracy"] >= 0.97
    assert [b["epochs_trained"] for b in table["blocks"]] == [50, 50, 50, 50]
