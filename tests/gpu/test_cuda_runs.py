"""Whole runs on a CUDA device: one stage, and two that share it."""

import json

import pytest
import torch
from tests.support.runs import run

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


@pytest.mark.parametrize("rule", ["linear_decoder", "predsim", "dfa", "backprop"])
def test_two_stages_on_one_gpu_are_one(tmp_path, rule):
    cuda = {"rule": {"name": rule}, "run": {"device": "cuda"}, "transport": {"name": "shared_memory"}}
    one = run(tmp_path / "one", cuda)
    two = run(tmp_path / "two", {**cuda, "run": {"device": "cuda", "stages": 2}})
    assert one["weights_sha256"] == two["weights_sha256"]
    assert one["device"] == "cuda" and one["stages"][0]["peak_device_bytes"] > 0


def test_the_cpu_is_not_far(tmp_path):
    """Other kernels, other roundings, the same data, draws of weights and learning."""
    plain = {"model": {"dropout": 0.0}}
    gpu = run(tmp_path / "gpu", {**plain, "run": {"device": "cuda"}, "transport": {"name": "shared_memory"}})
    cpu = run(tmp_path / "cpu", plain)
    assert gpu["test"]["loss"] == pytest.approx(cpu["test"]["loss"], rel=0.05)


def test_sequential_with_the_cache(tmp_path):
    changes = {
        "dataset": {"name": "digits", "crop_padding": 0}, "run": {"device": "cuda"},
        "transport": {"name": "shared_memory"}, "schedule": {"mode": "sequential"},
    }  # fmt: skip
    on = run(tmp_path / "on", changes)
    off = run(tmp_path / "off", {**changes, "schedule": {"mode": "sequential", "cache": "off"}})
    assert on["weights_sha256"] == off["weights_sha256"]


@pytest.mark.parametrize("settings", [{"autocast": "bfloat16"}, {"channels_last": True}, {"learn_after": "stage"}])
def test_every_setting_of_a_stage_gives_one_result_on_one_stage_and_on_two(tmp_path, settings):
    changes = {
        "model": {"name": "tests.support.conv_net.small"}, "rule": {"name": "predsim"},
        "transport": {"name": "shared_memory"},
    }  # fmt: skip
    found = {
        run(tmp_path / str(n), {**changes, "run": {"device": "cuda", "stages": n, **settings}})["weights_sha256"]
        for n in (1, 2)
    }
    assert len(found) == 1


def test_dense_blocks_by_hand_are_close_to_autograd(tmp_path):
    """A library may fuse a bias into a product in one of the two and not in the other."""
    plain = {"model": {"norm": "none", "dropout": 0.0, "activation": "relu"}, "transport": {"name": "shared_memory"}}
    losses = [
        run(tmp_path / str(closed), {
            **plain, "rule": {"name": "linear_decoder"}, "run": {"device": "cuda", "closed_form": closed},
        })["test"]["loss"]
        for closed in (True, False)
    ]  # fmt: skip
    assert losses[0] == pytest.approx(losses[1], rel=0.01)


def test_a_run_is_measured_on_the_gpu_as_on_the_cpu(tmp_path):
    """The initial weights are the same on both; nearly so are the angles, and the accuracies to a sample or two."""
    plain = {"rule": {"name": "fa"}, "train": {"epochs": 1}, "transport": {"name": "shared_memory"}}
    measure = {"every": 1, "probe_samples": 100, "tsne": [0], "tsne_samples": 20}
    first = []
    for device in ("cpu", "cuda"):
        run(tmp_path / device, {**plain, "model": {"dropout": 0.0}, "run": {"device": device}, "measure": measure})
        first.append(json.loads((tmp_path / device / "measurements.json").read_text())["epochs"][0])
        assert (tmp_path / device / "measurements" / "tsne.npz").exists()
    for cpu, cuda in zip(*(row["blocks"] for row in first), strict=True):
        assert cuda["angle_deg"] == pytest.approx(cpu["angle_deg"], abs=0.1)
        for key in ("test_accuracy", "readout_accuracy"):
            assert cuda[key] == (None if cpu[key] is None else pytest.approx(cpu[key], abs=0.02))


def test_replicas_that_share_a_gpu_are_micro_batches_of_one_process(tmp_path):
    plain = {
        "rule": {"name": "pred"}, "transport": {"name": "shared_memory"}, "model": {"norm": "none", "dropout": 0.0},
    }  # fmt: skip
    one = run(tmp_path / "one", {**plain, "train": {"microbatches": 2}, "run": {"device": "cuda"}})
    two = run(tmp_path / "two", {**plain, "train": {"microbatches": 2}, "run": {"device": "cuda", "replicas": 2}})
    assert one["weights_sha256"] == two["weights_sha256"]


def test_a_language_model_with_a_published_read_out(tmp_path):
    """On two stages that share the GPU, over whole steps: a read-out comes by as a message."""
    text = {
        "model": {"name": "transformer", "depth": 4, "layers_per_block": 2, "width": 32, "heads": 2},
        "dataset": {"name": "text", "window": 16, "windows": 64}, "rule": {"name": "readout", "every": 2},
        "optimizer": {"name": "adamw", "lr": 1e-3}, "transport": {"name": "shared_memory"},
    }  # fmt: skip
    found = {
        run(tmp_path / str(n), {**text, "run": {"device": "cuda", "stages": n}})["weights_sha256"] for n in (1, 2)
    }
    assert len(found) == 1
