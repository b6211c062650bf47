"""Sequences in chunks: the state that recurrent layers carry is the same wherever blocks are, and behind a resume."""

import pytest
import torch
from tests.support.command import call
from tests.support.products import rare, square
from tests.support.resumes import cuts_of, resumed, written
from tests.support.runs import LATE, merged, run, sha

from pipeline.config import Config
from pipeline.data.windows import feed_of
from pipeline.network.block import build_block
from pipeline.optim.optimizers import load_optimizer
from pipeline.records.snapshots import CARRIED, Manifest, read_block
from pipeline.records.weights import latest_weights, load_blocks
from pipeline.resolve import load_dataset, resolve
from pipeline.trained.scoring import evaluate

pytestmark = pytest.mark.distributed
SINE = {
    "model": {"name": "rnn", "depth": 2, "width": 6}, "rule": {"name": "backprop"},
    "dataset": {"name": "sine", "length": 12, "chunk": 4, "num_train": 16, "num_test": 8},
    "optimizer": {"name": "adam", "lr": 1e-2}, "train": {"epochs": 2, "batch_size": 8},
    "run": {"threads": 1, "stages": 1, "partition": "parameters", "predict": False, "timeout_s": 60.0},
    "transport": {"name": "inline"},
}  # fmt: skip
"""Two epochs of two groups of eight sequences, three chunks each."""


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """A text in order: the last batch of an epoch has fewer rows than the others."""
    path = tmp_path_factory.mktemp("text") / "a.txt"
    path.write_bytes(bytes(ord("a") + k * k % 23 for k in range(700)))
    return merged(SINE, {"dataset": {"name": "text", "path": str(path), "window": 9, "in_order": True}})


def autograd(base, folder):
    """The network of a run, by plain PyTorch over the same chunks; and its test loss."""
    config = Config.from_dict(base)
    resolved, dataset = resolve(config, folder), load_dataset(config, folder)
    net = torch.nn.Sequential(*(build_block(b, 0, k) for k, b in enumerate(resolved.blueprints)))
    optimizer = load_optimizer("adam", {"lr": 1e-2}).build([p for p in net.parameters() if p.requires_grad])
    train, test = (
        feed_of(split, dataset=dataset, batch_size=8, seed=0, device="cpu", train=k == 0)
        for k, split in enumerate(dataset.load())
    )
    chunking, layers = dataset.spec.chunking, [(block.body[0], block.body[-1].layer) for block in net[:-1]]

    def forward(x, states):
        for k, (front, layer) in enumerate(layers):
            x = front(x) if isinstance(front, torch.nn.Embedding) else x
            start = states.get(k)
            x, states[k] = layer(x, None if start is None else start[:, : len(x)].detach())
        return net[-1](x)

    for epoch in range(2):
        states = {}
        for index in range(train.num_batches):
            states = {} if chunking.is_start(index) else states
            x, y = train.batch(epoch, index)
            optimizer.zero_grad()
            dataset.spec.task.loss(forward(x, states), y).backward()
            optimizer.step()
    losses, states = [], {}
    with torch.no_grad():
        for index in range(test.num_batches):
            states = {} if chunking.is_start(index) else states
            x, y = test.batch(0, index)
            losses.append((dataset.spec.task.loss(forward(x, states), y), len(y)))
    return net, float(sum(loss * n for loss, n in losses) / sum(n for _, n in losses))


@pytest.mark.parametrize("kind", ["sine", "text"])
def test_chunks_learn_and_are_scored_from_the_state_of_those_before(tmp_path, text, kind):
    base = {"sine": SINE, "text": text}[kind]
    result = run(tmp_path / "run", base=base)
    net, loss = autograd(base, tmp_path)
    found = [tensor for state in load_blocks(latest_weights(tmp_path / "run")) for tensor in state.values()]
    for mine, plain in zip(found, net.parameters(), strict=True):
        assert (mine - plain).abs().max() <= 1e-5 * plain.abs().max()
    assert result["test"]["loss"] == pytest.approx(loss, rel=1e-5)
    assert evaluate(tmp_path / "run", data_root=tmp_path)["loss"] == result["test"]["loss"]


STAGES, TRANSPORTS = [2, "blocks"], ["inline", "shared_memory", "process_group"]


EDGES, CELL = {"rule": {"name": "dni_rnn"}}, {"rule": {"name": "dfa", "inject": "cell"}}
KINDS = ["sine", "text", "edges", "edges of text", "cell"]


def base_of(kind, text):
    return {
        "sine": SINE, "text": text, "edges": merged(SINE, EDGES), "edges of text": merged(text, EDGES),
        "cell": merged(SINE, CELL),
    }[kind]  # fmt: skip


@pytest.mark.parametrize(("kind", "stages", "transport"), square(KINDS, STAGES, TRANSPORTS))
def test_p1_carried_states_are_placement_independent(tmp_path, text, kind, stages, transport):
    base = base_of(kind, text)
    changes = {"run": {"stages": stages}, "transport": {"name": transport}}
    assert sha(tmp_path / "some", changes, base=base) == sha(tmp_path / "one", base=base)


@pytest.mark.parametrize("kind", rare(KINDS, but=["edges of text"]))
def test_p2_stages_and_messages_slowed_at_random(tmp_path, text, kind):
    base = base_of(kind, text)
    assert sha(tmp_path / "slow", LATE, base=base) == sha(tmp_path / "one", base=base)


@pytest.mark.parametrize(
    "changes",
    [
        {"train": {"microbatches": 3}, "schedule": {"mode": "1f1b"}},
        {"rule": {"name": "dfa", "inject": "cell"}, "train": {"in_flight": 3}},
        {"rule": {"name": "dni_rnn"}, "train": {"in_flight": 3}, "model": {"cell": "lstm"}},
        {"rule": {"name": "linear_decoder"}, "model": {"cell": "lstm"}},
        {"rule": {"name": "lra_rnn"}, "run": {"autocast": "bfloat16"}},
        {"rule": {"name": "pred"}, "model": {"cell": "gru", "truncate": 2}, "transport": {"wire": "int8"}},
    ],
    ids=["1f1b", "in-flight", "edges", "lstm", "autocast", "gru"],
)
def test_p1_other_ways_to_run_carry_the_same_states(tmp_path, text, changes):
    base = merged(text, changes)
    transport = {**base["transport"], "name": "shared_memory"}
    placed = sha(tmp_path / "some", {"run": {"stages": 3}, "transport": transport}, base=base)
    assert placed == sha(tmp_path / "one", base=base)


@pytest.mark.parametrize("kind", rare(["sine", "text", "edges"], but=["text"]))
def test_a_run_goes_on_from_the_states_that_its_snapshot_carries(tmp_path, text, kind):
    base = {"sine": SINE, "text": text, "edges": merged(SINE, EDGES)}[kind]
    base = merged(base, {"snapshot": {"every_steps": 1, "keep": 100}})
    expected = written(tmp_path / "run", {}, base)[:4]
    carrying = 0
    for index, cut in enumerate(cuts_of(tmp_path / "run")[1:9:2]):
        states = [name for name in read_block(cut, 0, Manifest.read(cut).files[0]).tensors if name.startswith(CARRIED)]
        carrying += bool(states)
        stages = {"run": {"stages": index % 3 + 1}}
        assert resumed(tmp_path / "run", cut, tmp_path / cut.name, stages, base)[:4] == expected
    assert carrying >= 2


WRONG = {
    "frozen blocks": (["schedule.mode=sequential", "rule.name=pred"], "the mode sequential freezes blocks"),
    "a probe": (["schedule.mode=gated", "gate.form=G2"], "the mode gated has a probe or frozen blocks, which keep no"),
    "replicas": (["run.replicas=2", "train.microbatches=2"], "each replica would carry the state of its own"),
    "blocks frozen by name": (["train.freeze=0", "rule.name=pred"], "frozen blocks keep no state from chunk to chunk"),
    "several passes": (["train.eval_passes=2", "rule.name=pred"], "a state is carried along one pass (given: "),
    "batches across sequences": (["train.batch_size=6"], "do not divide the sequences (given: train.batch_size = 6"),
    "a test batch too large": (["train.eval_batch_size=9"], "given: train.eval_batch_size = 9 for 8 of sine, ex"),
    "a chunk that does not fit": (["dataset.chunk=5"], "cut like this (given: dataset.chunk = 5 for 12 steps"),
    "units of another cell": (["model.cell=gru", "model.unit=relu"], "the cell has units of its own (given: model.un"),
    "drawn windows": (["dataset.name=text", "dataset.in_order=true", "dataset.windows=3"], "windows in order are all"),
}  # fmt: skip
NEXT = {"batches across sequences": "Set train.batch_size to 4.", "a test batch too large": "eval_batch_size to 8."}


@pytest.mark.parametrize("name", WRONG)
def test_what_would_tear_chunks_apart_is_refused(tmp_path, name):
    arguments, expected = WRONG[name]
    sine = "" if arguments[0] == "dataset.name=text" else "length=12 chunk=4 num_train=16 num_test=8"
    common = ["dataset.name=sine", *(f"dataset.{option}" for option in sine.split()), "model.name=rnn",
              "rule.name=backprop", "train.batch_size=8"]  # fmt: skip
    code, out, err = call("--out", tmp_path / "run", "--data-root", tmp_path, "--stages", "1", *common, *arguments)
    assert code == 2 and out == "" and err.startswith("launch.py: ") and err.count("\n") == 1, err
    assert expected in err and NEXT.get(name, "") in err, err
