"""Runs for tests: small, quiet, with one compute thread."""

from pipeline.config import Config
from workers.run import train

# Dropout, batch normalisation and augmentation on: whatever depends on the step must not depend on the placement.
SMALL = {
    "model": {"name": "mlp", "depth": 4, "width": 32, "dropout": 0.2, "activation": "leaky_relu"},
    "dataset": {"name": "digits", "crop_padding": 1},
    "rule": {"name": "predsim"},
    "optimizer": {"name": "adam", "lr": 1e-3, "milestones": [1]},
    "train": {"epochs": 2, "batch_size": 240},
    "run": {"threads": 1, "stages": 1, "partition": "parameters", "predict": False, "timeout_s": 60.0},
    "transport": {"name": "inline"},
}
LATE = {
    "run": {"stages": 3}, "transport": {"name": "tests.support.slow_shared_memory"},
    "chaos": {"stage_delay_s": 0.001, "delay": "random"},
}  # fmt: skip
"""Three stages, each of them late at random in every step and in every call of its transport."""
NUM_STEPS = 6
"""Of an epoch of these: 1437 training samples, and the last batch is smaller."""


def merged(base, changes):
    """``base`` with nested ``changes``; naming another thing drops the options of the old one."""
    table = {k: dict(v) if isinstance(v, dict) else v for k, v in base.items()}
    for key, value in changes.items():
        if not isinstance(value, dict):
            table[key] = value
        elif "name" in value and value["name"] != table.get(key, {}).get("name") and key != "optimizer":
            table[key] = dict(value)
        else:
            table[key] = {**table.get(key, {}), **value}
    return table


def run(out, changes=None, *, base=SMALL, model=None, data_root=None, make_view=None):
    """Trains and returns ``result.json``."""
    config = Config.from_dict(merged(base, changes or {}))
    return train(config, out=out, data_root=data_root or out, model=model, make_view=make_view)


def sha(out, changes=None, **kwargs):
    """The weights of a run as one string."""
    return run(out, changes, **kwargs)["weights_sha256"]
