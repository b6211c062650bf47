"""What the result of a run depends on: keys of its config, and what was decided beside it."""

from collections.abc import Mapping
from typing import Any

import torch

from pipeline.config import section_options
from pipeline.engine.wires import wires_of
from pipeline.optim.options import common_options
from pipeline.registry import defaults
from pipeline.resolve import RunSpec
from pipeline.schedules.modes import InFlightLimit
from workers.placement import Placement

__all__ = ["BEFORE", "BEGUN", "INITIAL", "differences", "fixed_by"]

_FREE_SECTIONS = ("transport", "snapshot", "restart", "chaos")
_FREE_KEYS = (
    "run.stages", "run.partition", "run.replicas", "run.device", "run.threads", "run.predict", "run.trace",
    "run.learn_after", "run.closed_form", "run.timeout_s", "run.start_timeout_s", "schedule.cache",
    "schedule.cache_limit_bytes",
)  # fmt: skip
"""What never changes the result, and what :func:`fixed_by` compares as it turned out to be."""

BEFORE: Mapping[str, Any] = {"transport.wire": "same", "transport.wire_at": [], "chaos.compute": "real"}
"""What runs had fixed before there were wire formats and emulated compute."""

INITIAL = "init_from"
"""What is said of the run from whose blocks a run began; not compared, since its config names that run."""
_INITIAL_WEIGHTS = "train.init_from.weights_sha256"
BEGUN = (INITIAL, _INITIAL_WEIGHTS)
"""What is fixed of a run's beginning, and stays true of all that goes on from its snapshots."""

_SINCE = {
    **{f"{name}.{key}": option.default for name, keys in section_options().items() for key, option in keys.items()},
    **{f"optimizer.{key}": value for key, value in defaults(common_options).items()},
}
"""Keys that runs of before do not have, with what they did."""


def fixed_by(resolved: RunSpec, placement: Placement) -> dict[str, Any]:
    """What belongs to the result of a run and not to its config, which may leave it open."""
    fixed: dict[str, Any] = {
        "run.threads": placement.threads, "run.device": placement.devices[0].partition(":")[0],
        "torch": torch.__version__, "steps_per_epoch": resolved.batching.num_steps,
        "train.microbatches": resolved.batching.microbatches, **BEFORE,
        "chaos.compute": resolved.config.chaos.compute,
    }  # fmt: skip
    if resolved.initial is not None:
        fixed[_INITIAL_WEIGHTS] = resolved.initial.weights_sha256
        fixed[INITIAL] = resolved.initial.about()
    wires = wires_of(resolved)
    fixed |= {} if wires is None else {"transport.wire": wires.wire, "transport.wire_at": sorted(wires.cuts)}
    if resolved.mode.in_flight is InFlightLimit.BY_STAGE:  # how late gradients are depends on the stages
        fixed["run.partition"] = [len(blocks) for blocks in placement.partition]
    return fixed


def differences(was: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Keys that make the result and are not the same, with both values. Args: two configs as nested tables."""
    found = {}
    for section in sorted({*was, *now} - {*_FREE_SECTIONS}):
        before, after = was.get(section, {}), now.get(section, {})
        if not isinstance(before, Mapping) or not isinstance(after, Mapping):
            before, after = {"": before}, {"": after}
        for key in sorted({*before, *after}):
            name = f"{section}.{key}".rstrip(".")
            if name == "dataset.path" and before.get("sha256") and before.get("sha256") == after.get("sha256"):
                continue  # the same data in another place
            had = before.get(key, _SINCE.get(name))
            if name not in _FREE_KEYS and _plain(had) != _plain(after.get(key)):
                found[name] = (had, after.get(key))
    return found


def _plain(value: Any) -> Any:
    """Tuples as the lists that TOML makes of them."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
