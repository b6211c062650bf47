"""The command line, in this process."""

import sys
from pathlib import Path

import launch
import pytest

from pipeline.errors import ConfigError


def test_flags_are_overrides_and_written_overrides_come_last():
    options = launch.parse(["--mode", "gpipe", "train.epochs=3", "--stages", "2", "--device", "cpu", "run.stages=3"])
    assert launch.overrides_of(options) == [
        "schedule.mode=gpipe", "run.stages=2", "run.device=cpu", "train.epochs=3", "run.stages=3",
    ]  # fmt: skip


def test_a_trace_is_written_where_it_is_asked_for():
    assert launch.overrides_of(launch.parse(["--trace"])) == ["run.trace=true"]
    assert launch.overrides_of(launch.parse([])) == []


def test_the_default_config_is_the_one_beside_the_launcher():
    assert launch.config_of(launch.parse([])) == launch.HERE / "configs" / "digits.toml"


def test_a_run_that_is_resumed_brings_its_own_config(tmp_path):
    (tmp_path / "config.toml").write_text("seed = 1")
    assert launch.config_of(launch.parse(["--resume", str(tmp_path)])) == tmp_path / "config.toml"
    assert launch.config_of(launch.parse(["--resume", str(tmp_path), "--config", "x.toml"])) == Path("x.toml")
    with pytest.raises(ConfigError, match="no run to resume .given: --resume .*none, expected: a folder that --out"):
        launch.config_of(launch.parse(["--resume", str(tmp_path / "none")]))


def test_the_list_names_everything_with_a_line_each(capsys):
    assert launch.main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name in ("predsim", "mlp", "digits", "shared_memory"):
        assert [line for line in lines if line.split()[:1] == [name] and len(line.split()) > 3] != [], name


def test_the_list_says_what_every_option_takes(capsys):
    assert launch.main(["--list"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    for line in (
        "rule.beta a number, at least 0, at most 1; default: 0.99",
        "dataset.image_size a whole number, at least 1, at most 16384; required",
        "optimizer.betas a list in which each is a number, at least 0, below 1; default: (0.9, 0.999)",
        "run.start_timeout_s a number, above 0, at most 1e6; default: 3000.0",
        "model.width a whole number, at least 1, at most 2147483647 or a list in which each is a whole number, "
        "at least 1, at most 2147483647; default: 256",
    ):
        assert line in lines


def test_another_package_of_that_name_is_refused(monkeypatch):
    monkeypatch.setattr(launch.pipeline, "__file__", "/elsewhere/pipeline/__init__.py")
    with pytest.raises(ConfigError, match=r"another package named 'pipeline' is imported \(at /elsewhere"):
        launch.check_identity()


@pytest.mark.parametrize("name", sorted(p.name for p in (launch.HERE / "configs").glob("*.toml")))
def test_every_config_is_valid_as_far_as_its_sections_go(name):
    loaded = launch.load_config(launch.HERE / "configs" / name)
    assert loaded.name == Path(name).stem and loaded.config.train.epochs > 0


def test_a_mistake_is_one_line_on_standard_error(capsys):
    assert launch.main(["train.epoch=3"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("launch.py: unknown key") and err.count("\n") == 1


def test_importing_the_launcher_does_not_import_torch():
    """The fork server starts while this process still imports: nothing heavy may come before."""
    import subprocess

    code = "import sys, launch; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=launch.HERE, check=False).returncode == 0
