"""Read-outs of blocks and what they stand behind: the same weights wherever the blocks are; pred and backprop."""

import json
from functools import cache

import pytest
from tests.support.command import call
from tests.support.products import square
from tests.support.resumes import TINY, cuts_of, resumed, written
from tests.support.runs import merged, run, sha

pytestmark = pytest.mark.distributed
RUN = {"threads": 1, "stages": 1, "partition": "parameters", "predict": False, "timeout_s": 60.0}
RULES = {
    "linear": {"name": "aux"}, "mlp": {"name": "aux", "head": "mlp"},
    "private": {"name": "aux", "depth": 1, "norm": True},
}  # fmt: skip
STAGES, TRANSPORTS = [2, 3, "blocks"], ["inline", "shared_memory", "process_group"]


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """A run on a short text of few bytes: two epochs of three steps, the last of which is smaller."""
    path = tmp_path_factory.mktemp("text") / "a.txt"
    path.write_bytes(bytes(ord("a") + k * k % 23 for k in range(1500)))
    return {
        "model": {"name": "transformer", "depth": 4, "layers_per_block": 1, "width": 8, "heads": 2},
        "dataset": {"name": "text", "path": str(path), "window": 9, "windows": 20},
        "rule": {"name": "aux"}, "train": {"epochs": 2, "batch_size": 8}, "run": RUN, "transport": {"name": "inline"},
        "optimizer": {"name": "adamw", "lr": 1e-2, "clip": 0.5, "course": "cosine", "warmup_steps": 2},
    }  # fmt: skip


@pytest.fixture(scope="module")
def reference(tmp_path_factory, text):
    """The weights of each rule from one stage in this process."""
    return cache(lambda name: sha(tmp_path_factory.mktemp(name) / "run", {"rule": RULES[name]}, base=text))


@pytest.mark.parametrize(("rule", "stages", "transport"), square(list(RULES), STAGES, TRANSPORTS))
def test_p1_a_transformer_on_any_number_of_stages_over_any_transport(
    tmp_path, text, reference, rule, stages, transport
):
    changes = {"rule": RULES[rule], "run": {"stages": stages}, "transport": {"name": transport}}
    assert sha(tmp_path / "run", changes, base=text) == reference(rule)


def test_a_lone_read_out_is_preds(tmp_path, text, reference):
    assert reference("linear") == sha(tmp_path / "run", {"rule": {"name": "pred"}}, base=text)
    changes = [{"rule": {"name": "aux"}}, {"rule": {"name": "pred", "dimdec": 10**6}}]
    assert len({sha(tmp_path / str(k), change, base=TINY) for k, change in enumerate(changes)}) == 1


@pytest.mark.parametrize("rule", [{"name": "aux", "head": "mlp"}, {"name": "aux", "depth": 1}])
def test_auxiliary_nets_of_classes(tmp_path, rule):
    base = merged(TINY, {"rule": rule, "train": {"microbatches": 2}})
    expected = sha(tmp_path / "one", base=base)
    three = {"run": {"stages": 3}, "transport": {"name": "shared_memory"}}
    assert sha(tmp_path / "three", three, base=base) == expected
    assert sha(tmp_path / "replicas", {"run": {"stages": 2, "replicas": [2, 1]}}, base=base) == expected


def test_a_run_with_private_layers_goes_on_from_the_middle_of_an_epoch(tmp_path, text):
    base = merged(text, {"rule": RULES["private"], "snapshot": {"every_steps": 1, "keep": 100}})
    expected = written(tmp_path / "run", {}, base)[:4]
    for index, cut in enumerate(cuts_of(tmp_path / "run")[1:6:2]):
        assert resumed(tmp_path / "run", cut, tmp_path / cut.name, {"run": {"stages": index + 1}}, base)[:4] == expected


def test_every_block_has_its_bits_per_byte_and_the_run_is_loaded(tmp_path, text):
    result = run(tmp_path / "run", {"rule": RULES["private"]}, base=text)
    bits = [b["test_metrics"]["bits_per_byte"] for b in result["blocks"]]
    assert len(bits) == 4 and bits[-1] == result["test"]["bits_per_byte"] and all(0 < b < 8 for b in bits)
    code, out, err = call("--resume", tmp_path / "run", "--generate", "5")
    assert (code, err) == (0, "") and len(out) == 6
    code, out, err = call("--evaluate", tmp_path / "run")
    assert code == 0 and f"{result['test']['bits_per_byte']:.3f}"[:4] in out, (out, err)
    rows = [json.loads(line) for line in (tmp_path / "run" / "record.jsonl").read_text().splitlines()]
    assert rows[0]["config"]["rule"] == {"name": "aux", "head": "linear", "depth": 1, "norm": True}


WRONG = {
    "a reduced map of positions": (["rule.head=mlp_sr"], "a reduced map needs a map (given: rule.head = "),
    "a head that is not there": (["rule.head=deep"], "wrong value for rule.head (given: 'deep'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_one_clear_message_and_exit_code_2(tmp_path, name):
    arguments, text = WRONG[name]
    code, out, err = call("--out", tmp_path / "run", "--stages", "1", "dataset.name=text", "model.name=transformer",
                          "rule.name=aux", *arguments)  # fmt: skip
    assert code == 2 and out == "" and err.startswith("launch.py: ") and err.count("\n") == 1, err
    assert text in err and not (tmp_path / "run").exists()
