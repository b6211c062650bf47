"""A trained network as a plain module of torch: scored, saved, and trained further by backpropagation.

    python examples/load_evaluate_finetune.py
"""

import onward
import torch
from sklearn.datasets import load_digits

CONFIG = {
    "model": {"name": "mlp", "depth": 3, "width": 128},
    "dataset": {"name": "digits"},
    "rule": {"name": "sim"},
    "train": {"epochs": 3},
    "run": {"stages": 2, "threads": 1},
}

if __name__ == "__main__":  # the processes of a run import this file
    run = onward.train(CONFIG, quiet=True)
    network = onward.load(run)
    print("scored as its run did:", onward.evaluate(network)["loss"] == run["test"]["loss"])
    print(f"test loss of the run {run['test']['loss']:.4f}")

    digits = load_digits()
    x = torch.from_numpy(digits.images[:1437]).float().unsqueeze(1) / 16  # as the data set has them
    y = torch.from_numpy(digits.target[:1437])
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    network.train()
    for _ in range(20):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(x), y).backward()
        optimizer.step()
    network.eval()
    print(f"and after twenty steps of backpropagation {onward.evaluate(network)['loss']:.4f}")
    print("written:", network.save(run.folder / "finetuned.safetensors"))
