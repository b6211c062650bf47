"""The section ``[optimizer]``: options of torch's class, and those that every optimizer has."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pipeline.errors import ConfigError
from pipeline.optim.course import Course, CourseName
from pipeline.optim.lr import LrSchedule
from pipeline.optim.optimizers import OptimizerSpec, asks_for_rate_once, load_optimizer
from pipeline.ranges import Count, Natural, NonNegative, Positive, Range, Share
from pipeline.registry import check_options, defaults

__all__ = ["OptimizerSection", "common_options", "parse_optimizer"]


def common_options(
    *,
    milestones: tuple[Count, ...] = (),
    gamma: Positive = 0.25,
    course: CourseName = "constant",
    warmup_steps: Natural = 0,
    final_fraction: Share = 0.1,
    decay_share: Annotated[float, Range(0, 1, above=True)] = 0.2,
    clip: NonNegative = 0.0,
    decay_on: Literal["all", "matrices"] = "all",
) -> None:
    """The options of ``[optimizer]`` that every optimizer has.

    Args:
        milestones: epochs from which on the rate is multiplied by another ``gamma``.
        gamma: that factor.
        course: of the rate from step to step, beside the milestones; see :class:`Course`.
        warmup_steps: steps in which the rate rises to its full value.
        final_fraction: of the rate, to which it falls.
        decay_share: of a run's steps, those at the end of ``wsd`` in which the rate falls.
        clip: largest norm of all gradients of one block together, per step; 0: none.
        decay_on: what ``weight_decay`` is for: all parameters, or those with two dimensions and more.
    """


@dataclass(frozen=True)
class OptimizerSection:
    """The section, checked."""

    optimizer: OptimizerSpec
    options: Mapping[str, Any]
    """All options, the defaults filled in."""

    def lr(self, epochs: int, steps_per_epoch: int) -> LrSchedule:
        """The learning rate's course over a run.

        Args:
            epochs: that a block trains at most.
            steps_per_epoch: optimizer steps of each.

        Raises:
            ConfigError: milestones that do not rise, or a run too short for the course.
        """
        found = self.options
        steady = asks_for_rate_once(self.optimizer.name)  # which a warm-up would divide for good
        course = Course(
            "constant" if steady else found["course"], 0 if steady else found["warmup_steps"],
            found["final_fraction"], found["decay_share"], epochs * steps_per_epoch, steps_per_epoch,
        )  # fmt: skip
        return LrSchedule(self.optimizer.lr, tuple(found["milestones"]), found["gamma"], course)


def parse_optimizer(name: str, options: Mapping[str, Any]) -> OptimizerSection:
    """Check the section ``[optimizer]``.

    Args:
        name: see :func:`load_optimizer`.
        options: the section without the name.

    Raises:
        ConfigError: an unknown name or key, or a wrong value.
    """
    known = defaults(common_options)
    common = check_options(common_options, {k: v for k, v in options.items() if k in known}, "optimizer")
    spec = load_optimizer(name, {k: v for k, v in options.items() if k not in known}, tuple(known))
    if common["decay_on"] == "matrices" and "weight_decay" not in spec.options:
        raise ConfigError(
            f"this optimizer decays no weights (given: optimizer.decay_on = \"matrices\" with optimizer.name = "
            f"\"{name}\", expected: \"all\", the default). Leave it out, or choose adamw."
        )
    spec = replace(spec, clip=common["clip"], decay_on=common["decay_on"])
    section = OptimizerSection(spec, {**spec.options, **common})
    LrSchedule(spec.lr, tuple(common["milestones"]), common["gamma"])  # refuses what no length of a run would mend
    return section

