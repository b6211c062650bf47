"""Runs of a tiny language model on a short text of few bytes."""

from pathlib import Path


def on_short_text(folder: Path, depth: int) -> dict:
    """Model, data, transport and optimizer of a run: a layer to a block, three steps of 8 windows, the last smaller."""
    path = folder / "a.txt"
    path.write_bytes(bytes(ord("a") + k * k % 23 for k in range(1500)))
    return {
        "model": {"name": "transformer", "depth": depth, "layers_per_block": 1, "width": 8, "heads": 2},
        "dataset": {"name": "text", "path": str(path), "window": 9, "windows": 20}, "transport": {"name": "inline"},
        "optimizer": {"name": "adamw", "lr": 1e-2, "clip": 0.5, "course": "cosine", "warmup_steps": 2},
    }  # fmt: skip
