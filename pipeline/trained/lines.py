"""Lines for the terminal about what a trained network scores and answers."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.records.number_text import percent
from pipeline.trained.answers import Answer

__all__ = ["answer_line", "evaluation_line"]


def evaluation_line(table: Mapping[str, Any]) -> str:
    """What :func:`pipeline.trained.scoring.evaluate` has found, in one line."""
    parts = [] if table["accuracy"] is None else [f"test accuracy {percent(table['accuracy'])} %"]
    parts += [f"loss {table['loss']:#.4g}", *(f"{name} {value:#.4g}" for name, value in table["metrics"].items())]
    if any(row["test_accuracy"] is not None for row in table["blocks"][:-1]):
        parts.append(_of_blocks(table["blocks"]))
    samples = f"{table['samples']:,}".replace(",", " ")
    return f"{', '.join(parts)}, {samples} samples of {table['dataset']}"


def _of_blocks(rows: Sequence[Mapping[str, Any]]) -> str:
    """Accuracies of the blocks' own decoders; in brackets, with the reason, those that the run has not trained."""
    texts = [percent(row["test_accuracy"]) for row in rows]
    own = [f"({text})" if _is_untrained(row) else text for text, row in zip(texts, rows, strict=True)]
    untrained = [row for row in rows if _is_untrained(row)]
    notes = [
        f"block {row['block']}: not trained here, from {row['init_from']}, its decoder too where that run's is of the "
        "same form" for row in untrained if row["init_from"] is not None
    ]  # fmt: skip
    if any(row["init_from"] is None for row in untrained):
        notes.insert(0, "drawn and never trained, so the block's decoder guesses")
    told = f" (in brackets: {'; '.join(notes)})" if notes else ""
    return f"blocks 0-{len(own) - 1}: {' '.join(own)} %{told}"


def _is_untrained(row: Mapping[str, Any]) -> bool:
    return row["epochs_trained"] == 0 and row["test_accuracy"] is not None


def answer_line(answer: Answer) -> str:
    """Name, class and probability, apart by tabulators: a script can cut the line."""
    return f"{answer.name}\tclass {answer.label}\t{percent(answer.probability)} %"
