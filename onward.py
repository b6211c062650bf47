"""One import for a user: train a run, load its network, score it, compare it with backpropagation.

    import onward

    run = onward.train("configs/digits.toml", "run.stages=2")
    network = onward.load(run)

The names are imported when they are first asked for: importing this module leaves torch out.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import pipeline
import workers

for package in (pipeline, workers):
    if Path(package.__file__ or "nowhere").resolve().parent.parent != Path(__file__).resolve().parent:
        raise ImportError(
            f"another package named {package.__name__!r} is imported (at {package.__file__}, expected: the one beside "
            f"{__file__}). Rename that one, or run from another folder."
        )

from pipeline.lazy import lazy_names  # noqa: E402

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.errors import Stop
    from pipeline.trained.build import load
    from pipeline.trained.scoring import evaluate
    from pipeline.trained.sources import Run
    from workers.front import compare, train

__all__ = ["Config", "Run", "Stop", "compare", "evaluate", "load", "train"]

__getattr__, __dir__ = lazy_names(__name__, {
    "pipeline.config": ("Config",),
    "pipeline.errors": ("Stop",),
    "pipeline.trained.build": ("load",),
    "pipeline.trained.scoring": ("evaluate",),
    "pipeline.trained.sources": ("Run",),
    "workers.front": ("compare", "train"),
})
