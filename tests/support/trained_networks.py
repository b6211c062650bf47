"""What it means that a network was loaded: it computes what its run evaluated, to the bit, along every way."""

import torch

from pipeline.data.windows import feed_of
from pipeline.engine.scores import Scores
from pipeline.resolve import load_dataset
from pipeline.trained.build import load
from pipeline.trained.scoring import evaluate

CPU = torch.device("cpu")


def batches_of(network, data_root):
    config = network.recipe.config
    dataset = load_dataset(config, data_root)
    size = min(config.train.eval_batch_size or config.train.batch_size, dataset.spec.num_test)
    test = feed_of(dataset.load()[1], dataset=dataset, batch_size=size, seed=0, device=CPU, train=False)
    return [test.batch(0, index) for index in range(test.num_batches)]


def test_score(network, data_root, call):
    """Accuracy and loss, as a run sums them, of what ``call`` says of each batch."""
    scores = Scores(network.rules[-1], CPU)
    for index, (x, y) in enumerate(batches_of(network, data_root)):
        with network.rounding(CPU):
            scores.add_test(call(x, index).detach(), y)
    row = scores.read()
    return {"accuracy": row.get("test_accuracy"), "loss": row["test_loss"], **row.get("test_metrics", {})}


test_score.__test__ = False


def check_loaded(run, result, *, folder, data_root, model=None):
    """Loads a run's network and compares it with ``result``; returns it."""
    network = load(run, model=model, data_root=data_root)
    torch.set_num_threads(2)  # of the caller, and not of the run
    check_scores(network, result, data_root)
    own, found = result["blocks"], evaluate(network, data_root=data_root)["blocks"]
    for name, nothing in (("test_accuracy", None), ("test_metrics", {})):
        assert [b.get(name, nothing) for b in found] == [b.get(name, nothing) for b in own]
    x = batches_of(network, data_root)[0][0]
    for readouts in (False, True):
        again = load(network.save(folder / "net.safetensors", readouts=readouts), model=model, data_root=data_root)
        check_scores(again, result, data_root)
        assert list(again.state_dict()) == list(network.state_dict())
    for block, scores in enumerate(own):
        if scores["test_accuracy"] is not None or scores.get("test_metrics"):
            assert torch.equal(again.readout(block)(x), network.readout(block)(x))
    assert torch.get_num_threads() == 2
    return network


def check_scores(network, result, data_root):
    """With a graph and without, and by ``evaluate``."""
    assert not network.training
    found = evaluate(network, data_root=data_root)
    assert {"accuracy": found["accuracy"], "loss": found["loss"], **found["metrics"]} == result["test"]
    with torch.no_grad():
        assert test_score(network, data_root, network) == result["test"]
    assert test_score(network, data_root, network) == result["test"]
