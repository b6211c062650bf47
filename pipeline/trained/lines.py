"""Lines for the terminal about what a trained network scores and answers."""

from collections.abc import Mapping
from typing import Any

from pipeline.records.number_text import percent
from pipeline.trained.answers import Answer

__all__ = ["answer_line", "evaluation_line"]


def evaluation_line(table: Mapping[str, Any]) -> str:
    """What :func:`pipeline.trained.scoring.evaluate` has found, in one line."""
    own = [row["test_accuracy"] for row in table["blocks"]]
    parts = [] if table["accuracy"] is None else [f"test accuracy {percent(table['accuracy'])} %"]
    parts += [f"loss {table['loss']:#.4g}", *(f"{name} {value:#.4g}" for name, value in table["metrics"].items())]
    if any(accuracy is not None for accuracy in own[:-1]):
        parts.append(f"blocks 0-{len(own) - 1}: {' '.join(map(percent, own))} %")
    samples = f"{table['samples']:,}".replace(",", " ")
    return f"{', '.join(parts)}, {samples} samples of {table['dataset']}"


def answer_line(answer: Answer) -> str:
    """Name, class and probability, apart by tabulators: a script can cut the line."""
    return f"{answer.name}\tclass {answer.label}\t{percent(answer.probability)} %"
