"""Flags that mean nothing together: one message each, and none of them is taken silently."""

import launch
import pytest

from pipeline.errors import ConfigError
from workers.flags import check_together

RUN = ["--resume", "RUN", "--generate", "9"]
WRONG = {
    "--evaluate trains nothing (given: --evaluate with --log). Leave one of": ["--evaluate", "RUN", "--log", "csv"],
    "--predict trains nothing (given: --predict with --repeat). Leave": ["--predict", "RUN", "x", "--repeat", "3"],
    "a comparison starts several runs (given: --against with --log)": ["--against", "backprop", "--log", "csv"],
    "a comparison starts several runs (given: --against with --generate)": ["--against", "backprop", *RUN[2:]],
    "a plan runs nothing (given: --plan with --trace)": ["--plan", "--trace"],
    "a plan runs nothing (given: --plan with --log)": ["--plan", "--log", "csv"],
    "a report changes no run (given: --report with --fresh)": ["--report", "RUN", "--fresh"],
    "--evaluate trains nothing (given: --evaluate with --fresh)": ["--evaluate", "RUN", "--fresh"],
    "text is made by one process on the CPU, which records nothing (given: --generate with --fresh)": [*RUN, "--fresh"],
    "a plan resumes nothing (given: --plan with --allow-changes)": ["--plan", "--allow-changes"],
    "a plan generates nothing (given: --plan with --generate)": ["--plan", *RUN],
    "text is made by one process on the CPU, which records nothing (given: --generate with --allow-changes)": [
        *RUN, "--allow-changes",
    ],
    "text is made by one process on the CPU, which records nothing (given: --generate with --log)": [
        *RUN, "--log", "csv",
    ],
    "a run is not planned (given: --device-speed without --plan). Add --plan, or leave it": ["--device-speed", "2"],
    "nothing is repeated (given: --repeat without --against). Add --against or --sweep, or": ["--repeat", "3"],
    "a run is one job (given: --jobs without --sweep). Add --sweep, or": ["--jobs", "2"],
    "a sweep starts several runs (given: --sweep with --log)": ["--sweep", "rule.beta=0,1", "--log", "csv"],
    "a report changes no run (given: --report with --log)": ["--report", "RUN", "--log", "csv"],
    "a report changes no run (given: --report with --init-from)": ["--report", "RUN", "--init-from", "OTHER"],
    "a report changes no run (given: --report with seed=1)": ["seed=1", "--report", "RUN"],
}  # fmt: skip


@pytest.mark.parametrize("told", WRONG)
def test_what_means_nothing_is_refused(told):
    with pytest.raises(ConfigError) as caught:
        check_together(launch.parse(WRONG[told]))
    assert str(caught.value).startswith(told)


def test_a_comparison_is_no_rank(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(ConfigError, match="a comparison starts its own processes .given: --against under torchrun"):
        check_together(launch.parse(["--against", "backprop"]))


def test_text_is_made_by_no_rank(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(ConfigError, match="every rank would write its own text .given: --generate under torchrun"):
        check_together(launch.parse(RUN))


def test_a_plan_is_no_rank(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(ConfigError, match="every rank would plan the same .given: --plan under torchrun"):
        check_together(launch.parse(["--plan"]))


@pytest.mark.parametrize(
    "given", [[], RUN, ["--plan", "--hosts", "2", "--stages", "1,2", "--fresh"], ["--fresh"],
              ["--against", "backprop", "--repeat", "2"],
              ["--sweep", "rule.beta=0,1", "--repeat", "2", "--jobs", "2", "--trace", "--stages", "2", "seed=1"],
              ["--report", "RUN", "RUN", "--out", "OUT", "--quiet"],
              ["--evaluate", "RUN", "--device", "cpu", "dataset.name=mnist"], ["--predict", "RUN", "x.npz", "--quiet"],
              ["--resume", "RUN", "--allow-changes", "--log", "csv", "--log", "wandb", "--trace"]],
)  # fmt: skip
def test_what_means_something_is_taken(given):
    check_together(launch.parse(given))
