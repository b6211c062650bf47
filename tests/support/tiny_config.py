"""A config for commands that start several runs: one epoch of a tiny network, as a table and as a file."""

from tests.support import resumes, runs

from pipeline.config import Config
from pipeline.config.toml_text import to_toml

ONE_EPOCH = runs.merged(resumes.TINY, {"train": {"epochs": 1}, "model": {"norm": "none"}, "snapshot": {"keep": 1}})


def config_file(folder, table=ONE_EPOCH):
    """``tiny.toml`` in a folder, every default included."""
    path = folder / "tiny.toml"
    path.write_text(to_toml(Config.from_dict(table).to_dict()))
    return path
