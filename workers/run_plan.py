"""A run that is ready to start: checked, placed, and compared with the one that it goes on with."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.config import Config
from pipeline.network.from_modules import UserModel
from pipeline.network.structure import pack_structure
from pipeline.records.network_facts import NetworkFacts
from pipeline.resolve import RunSpec, resolve
from workers.dry_run.dry_run import predict_run
from workers.host.out_folder import check_out
from workers.placement import Host, Placement, place
from workers.resume import Origin

__all__ = ["RunPlan", "facts_of", "plan_run"]

_MOST_BYTES = 2**24
"""Of the structure of a network: modules may hold large tensors that are no state."""


@dataclass(frozen=True)
class RunPlan:
    """A run that is ready to start: what, where, and from where on."""

    resolved: RunSpec
    placement: Placement
    origin: Origin | None = None
    model: UserModel | None = None
    """The object that was handed over."""


def plan_run(
    config: Config, host: Host, out: Path, data_root: Path, model: UserModel | None = None,
    origin: Origin | None = None,
) -> RunPlan:  # fmt: skip
    """Checks everything that can be checked before a process starts.

    Raises:
        ConfigError: what is wrong, the config or the changes since ``origin``.
    """
    if origin is None or not origin.is_in(out):
        check_out(out)
    if origin is not None:
        config = origin.fixed_in(config)
    has_state = origin is not None and origin.found is not None
    resolved = resolve(config, data_root, model, begins=not has_state or config.measure.every > 0)
    placement = predict_run(resolved, place(resolved, host), host, data_root)
    if origin is not None:
        origin.check(resolved, placement)
    return RunPlan(resolved, placement, origin, model)


def facts_of(resolved: RunSpec, model: UserModel | None) -> NetworkFacts:
    """What is written down of the network for whoever builds it again. Args: model, what was handed over, if it was."""
    structure = None
    if model is not None:
        with suppress(Exception):  # of the user's classes; a run does not depend on it, and load asks for the object
            structure = pack_structure(model)
    if structure is not None and len(structure) > _MOST_BYTES:
        structure = None
    last = resolved.specs[-1]
    data = resolved.data
    return NetworkFacts(
        data.input_shape, last.task, resolved.normalisation, structure, last.num_train, data.input_dtype,
        str(resolved.config.dataset.options.get("sha256", "")), data.has_pixels, data.num_tokens,
    )  # fmt: skip
