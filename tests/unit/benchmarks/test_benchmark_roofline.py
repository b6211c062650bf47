"""The benchmark of where the time of a step goes."""

import json
from types import SimpleNamespace

import pytest

from benchmarks import roofline


def operation(key, self_us):
    return SimpleNamespace(key=key, self_cpu_time_total=self_us)


def test_operations_are_counted_by_kind():
    averages = [
        operation("aten::mm", 30), operation("aten::mkldnn_convolution", 10), operation("aten::leaky_relu", 4),
        operation("aten::native_batch_norm_backward", 8), operation("aten::convolution", 2),
        operation("aten::gelu", 2), operation("aten::_fused_adam_", 6),
        operation("aten::_scaled_dot_product_flash_attention_for_cpu_backward", 12),
    ]  # fmt: skip
    found = roofline.by_kind(averages, steps=2)
    assert {kind: pytest.approx(1e6 * s) for kind, s in found.items()} == {
        "products": 20, "batch norm": 4, "activations": 3, "attention": 6, "optimizer": 3,
        "pooling, zeros": 0, "other": 1,
    }  # fmt: skip


@pytest.mark.parametrize("preset", ["dni-6x256", "dfa-8x1024"])
def test_rules_that_wait_are_refused(preset, capsys):
    with pytest.raises(SystemExit):
        roofline.main(["--preset", preset])
    assert f"invalid choice: '{preset}'" in capsys.readouterr().err


@pytest.mark.parametrize("preset", ["vgg8b-quarter-pooled", "mlp-8x128", "lm-s-2"])
def test_both_arms_are_measured(tmp_path, preset):
    out = tmp_path / "roofline.json"
    assert roofline.main(["--preset", preset, "--rounds", "1", "--steps", "1", "--out", str(out)]) == 0
    table = json.loads(out.read_text())
    assert all(table["step_s"][arm]["products"]["median"] > 0 for arm in ("local", "backprop"))
    totals = {arm: sum(kind["all"][0] for kind in table["step_s"][arm].values()) for arm in ("local", "backprop")}
    assert table["arithmetic"]["all"] == [pytest.approx(totals["backprop"] / totals["local"])]
