"""The command line's parser: a mistake is told in one line, with what was probably meant; counts as they are typed."""

import argparse
import re
from typing import NoReturn

from pipeline.config import section_options
from pipeline.registry import nearest

__all__ = ["FlagParser", "whole_number", "whole_numbers"]

_SHARED = ("optimizer.lr", "model.name", "dataset.name", "rule.name", "optimizer.name")
"""Keys of sections whose other keys depend on what they name."""


class FlagParser(argparse.ArgumentParser):
    """As argparse's own; ``--stage 2`` and ``--epochs 3`` are told what they would be right as."""

    def error(self, message: str) -> NoReturn:
        """Ends the process with status 2, and one line."""
        unknown = re.match(r"unrecognized arguments: (--?[^\s=]+)", message)
        choice = re.match(r"argument (\S+): invalid choice: '(.*)' \(choose from (.*)\)", message)
        if unknown is not None:
            message = f"unknown flag (given: {unknown[1]}, expected: one that --help lists). {self._meant(unknown[1])}"
        elif choice is not None:
            known = [name.strip("' ") for name in choice[3].split(",")]
            message = (
                f"wrong value for {choice[1]} (given: {choice[2]!r}, expected: {', '.join(known)}). "
                f"{nearest(choice[2], known)}Change it."
            )
        else:
            message = f"{message}. See --help."
        self.exit(2, f"{self.prog}: {' '.join(message.split())}\n")

    def _meant(self, flag: str) -> str:
        """What to do about a flag that there is not."""
        hint = nearest(flag, [name for name in self._option_string_actions if name.startswith("--")])
        keys = [*_SHARED, *(f"{section}.{key}" for section, options in section_options().items() for key in options)]
        name = flag.lstrip("-").replace("-", "_")
        key = next((key for key in keys if name in (key, key.rpartition(".")[2])), None)
        if key is not None and flag.startswith("--"):
            return f"{key} is a key of the config: write {key}=..., without dashes."
        return f"{hint}Correct or remove it."


def whole_number(text: str, most: int) -> int | None:
    """The number from 1 to ``most`` that was typed; None where it is none, however long it is."""
    digits = text.lstrip("0")
    is_short = digits.isascii() and digits.isdecimal() and len(digits) <= len(str(most))
    return int(digits) if is_short and int(digits) <= most else None


def whole_numbers(text: str, most: int) -> tuple[int, ...] | None:
    """Several of them, with commas between; None where one is none."""
    found = tuple(whole_number(part.strip(), most) or 0 for part in text.split(","))
    return found if all(found) else None
