"""A rank's place, as torchrun's variables tell it."""

import pytest

from workers.torchrun import Ranks


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, None),
        ({"RANK": "0", "WORLD_SIZE": "1"}, None),
        ({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2", "LOCAL_RANK": "1"},
         Ranks(rank=3, num_ranks=4, ranks_here=2, local_rank=1)),
    ],
)  # fmt: skip
def test_from_torchruns_variables(monkeypatch, variables, expected):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert Ranks.from_environment() == expected
