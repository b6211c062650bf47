"""Data of your own: numbers to be predicted from numbers, in a file of numpy's.

    python examples/own_data.py
"""

from pathlib import Path

import numpy as np
import onward

CONFIG = {
    "model": {"name": "mlp", "depth": 2, "width": 64},
    "rule": {"name": "linear_decoder"},
    "optimizer": {"name": "adam", "lr": 3e-3},
    "train": {"epochs": 10},
    "run": {"stages": 2, "threads": 1},
}


def samples(count, seed):
    """Angles of two joints of an arm, and where its hand is."""
    angles = np.random.default_rng(seed).uniform(-np.pi, np.pi, (count, 2)).astype(np.float32)
    elbow = np.stack([np.cos(angles[:, 0]), np.sin(angles[:, 0])], 1)
    hand = elbow + np.stack([np.cos(angles.sum(1)), np.sin(angles.sum(1))], 1)
    return angles, hand.astype(np.float32)


if __name__ == "__main__":  # the processes of a run import this file
    (x_train, y_train), (x_test, y_test) = samples(4000, seed=0), samples(500, seed=1)
    path = Path("arm.npz").resolve()
    np.savez(path, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    data = ["dataset.name=arrays", f"dataset.path={path}"]
    run = onward.train(CONFIG, *data, quiet=True)
    print(f"mean squared error of the hand's place: {run['test']['loss']:.3f}")
    print("of each block's own decoder:", [round(b["test_loss"], 3) for b in onward.evaluate(run)["blocks"]])
