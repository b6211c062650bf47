"""Seeds derived from the run's seed and a purpose.

Nothing random depends on rank, process or time: every draw is keyed by (run seed, block, step, purpose), so that a
resumed run or another partition needs no stored random state.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["derive", "mix", "reseed", "seeded"]

_MASK = (1 << 64) - 1


def derive(seed: int, *key: int | str) -> int:
    """A seed for one purpose, in [0, 2**63). The same key always gives the same seed."""
    text = repr((seed, *key)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def mix(base: int, counter: int) -> int:
    """A seed for step ``counter`` of a purpose whose own seed is ``base``; in [0, 2**63).

    SplitMix64 (Steele, Lea, Flood 2014): a hash of two integers cheap enough for the step loop.
    """
    z = (base + (counter + 1) * 0x9E3779B97F4A7C15) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return (z ^ (z >> 31)) >> 1


def reseed(seed: int, device: torch.device) -> None:
    """Seed the default generators of the CPU and of ``device``; ``torch.manual_seed`` would visit every device."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Context with torch's CPU generator at ``seed``, which restores the generator at its end."""
    state = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(state)
