"""What ``import onward`` offers of a run: training that needs no more than a config."""

import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from pipeline.config import Config, load_config
from pipeline.network.from_modules import UserModel
from pipeline.places import default_data_root
from pipeline.trained.sources import Run
from workers import run as runs
from workers.host.out_folder import new_out_folder
from workers.view.terminal import view_maker

__all__ = ["train"]


def train(
    config: Config | Mapping[str, Any] | str | Path = Config(), *overrides: str, model: UserModel | None = None,
    out: str | Path | None = None, data_root: str | Path | None = None, quiet: bool = False,
) -> Run:  # fmt: skip
    """Trains on this host, in processes of its own; returns the run.

    These processes import the script that calls this, so the call stands under ``if __name__ == "__main__":``.

    Args:
        config: the run; or its tables as TOML would have them; or the path of a TOML file.
        overrides: ``section.key=value``, as the command line has them.
        model: an ``nn.Sequential`` or a list of modules, one per block, in place of the config's ``[model]``. It is
            left as it is; :func:`pipeline.trained.build.load` returns the trained one.
        out: the run's folder, new or empty; None for ``runs/<name>-<time>`` in the folder that the user is in.
        data_root: where data sets are; None for ``$ONWARD_DATA``, else ``~/.cache/onward``.
        quiet: nothing is shown on the terminal.

    Raises:
        ConfigError: something is wrong with the config.
        WorkerFailed: a stage raised or died.
        NonFiniteError: a loss, weight or buffer is nan or infinite.
    """
    name = "run"
    if isinstance(config, str | Path):
        loaded = load_config(Path(config), overrides)
        config, name = loaded.config, loaded.name
    else:
        config = (config if isinstance(config, Config) else Config.from_dict(config)).overridden(overrides)
    default = Path.cwd() / "runs" / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    root = default_data_root() if data_root is None else Path(data_root)
    with new_out_folder(default) if out is None else nullcontext(Path(out)) as folder:
        runs.train(config, out=folder, data_root=root, model=model, make_view=view_maker(quiet=quiet))
    return Run(folder)
