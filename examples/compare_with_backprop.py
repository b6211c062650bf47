"""Local learning beside backpropagation: the same network, data, seeds and cores.

    python examples/compare_with_backprop.py
"""

import onward

CONFIG = {
    "model": {"name": "mlp", "depth": 3, "width": 128},
    "dataset": {"name": "digits"},
    "rule": {"name": "predsim"},
    "optimizer": {"name": "adam", "lr": 1e-3},
    "train": {"epochs": 3},
    "run": {"stages": 2, "threads": 1},
}

if __name__ == "__main__":  # the processes of a run import this file
    table = onward.compare(CONFIG, against=["backprop"], repeat=2, quiet=True)
    for name, arm in table["arms"].items():
        tests = " ".join(f"{100 * accuracy:.1f}" for accuracy in arm["tests"])
        print(f"{name:>8}: test accuracy {tests} %, {arm['samples_per_s']:8.0f} samples/s")
    for name, ratios in table["ratios"].items():
        print(f"parallel over {name}: {ratios['samples_per_s']:.2f} times the samples/s")
