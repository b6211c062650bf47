"""Data of your own, handed over as arrays: numbers to be predicted from numbers, the best epoch by a validation set.

    python examples/own_data.py
"""

import numpy as np
import onward

CONFIG = {
    "model": {"name": "mlp", "depth": 2, "width": 64},
    "dataset": {"validation": 0.1},  # held out: the epoch that is best there is the one that the run ends with
    "rule": {"name": "linear_decoder"},
    "optimizer": {"name": "adam", "lr": 3e-3},
    "train": {"epochs": 10, "patience": 3},
    "run": {"stages": 2, "threads": 1},
}


def samples(count, seed):
    """Angles of two joints of an arm, and where its hand is."""
    angles = np.random.default_rng(seed).uniform(-np.pi, np.pi, (count, 2))
    elbow = np.stack([np.cos(angles[:, 0]), np.sin(angles[:, 0])], 1)
    hand = elbow + np.stack([np.cos(angles.sum(1)), np.sin(angles.sum(1))], 1)
    return angles.astype(np.float32), hand.astype(np.float32)


if __name__ == "__main__":  # the processes of a run import this file
    run = onward.train(CONFIG, data={"train": samples(4000, seed=0), "test": samples(500, seed=1)}, quiet=True)
    print(f"mean squared error of the hand's place: {run['test']['loss']:.3f}, by epoch {run['selection']['epoch']}")
    print("of each block's own decoder:", [round(b["test_loss"], 3) for b in onward.evaluate(run)["blocks"]])
