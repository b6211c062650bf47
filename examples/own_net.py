"""A network of your own, trained in two processes, watched by a hook, and taken back.

    python examples/own_net.py
"""

import onward
from torch import nn

CONFIG = {
    "dataset": {"name": "digits"},
    "rule": {"name": "pred"},
    "optimizer": {"name": "adam", "lr": 2e-3},
    "train": {"epochs": 10},
    "run": {"stages": 2, "threads": 1},
}


def tell(epoch):
    blocks = " ".join(f"{100 * block['test_accuracy']:.1f}" for block in epoch["blocks"])
    print(f"epoch {epoch['epoch']}: test accuracy {100 * epoch['test_accuracy']:.1f} %, by block: {blocks}")


if __name__ == "__main__":  # the processes of a run import this file
    net = nn.Sequential(  # every child with weights opens a block
        nn.Flatten(),
        nn.Linear(64, 128), nn.BatchNorm1d(128), nn.ReLU(),
        nn.Linear(128, 128), nn.BatchNorm1d(128), nn.ReLU(),
        nn.Linear(128, 10),
    )  # fmt: skip
    run = onward.train(CONFIG, model=net, on_epoch=tell, log=["csv"], quiet=True)
    net.load_state_dict(onward.load(run).state_dict())  # the names are those of net
    print(f"trained in {run['num_stages']} processes: test accuracy {100 * run['test']['accuracy']:.1f} %")
    print(f"files in {run.folder}")
